"""Stops and other changes as the user sees them."""

from __future__ import annotations

import os
from collections.abc import Sequence

from distdbg.client.merge import merge
from distdbg.client.state import Change, RankRan, RankWasLost, StopAnnounced, StopCluster, StopReport
from distdbg.reporters.view import Span, Stack, Table, Text, View, ranks_span, stack, text
from distdbg.schema.event import ForwardBegin, ForwardEnd, Iteration, ModuleEvent, Watched
from distdbg.schema.stop import Frame, Stop


def short_path(path: str) -> str:
    """A path relative to the working directory, or only its last part when it is elsewhere."""
    if not path or path.startswith("<"):
        return path
    here = os.path.relpath(path) if os.path.isabs(path) else path
    return os.path.basename(path) if here.startswith("..") or len(here) > 60 else here


def place(frame: Frame) -> str:
    """`train.py:47 Block.forward`."""
    return f"{short_path(frame.file)}:{frame.line} {frame.function}".rstrip()


def source_lines(frame: Frame, around: int = 2, indent: str = "  ") -> Text:
    """The lines around the frame's own, which an arrow marks."""
    lines = Text()
    near = [(number, line) for number, line in frame.source if abs(number - frame.line) <= around]
    while near and not near[-1][1].strip() and near[-1][0] != frame.line:
        near.pop()
    while near and not near[0][1].strip() and near[0][0] != frame.line:
        near.pop(0)
    width = max((len(str(number)) for number, _ in near), default=0)
    for number, line in near:
        is_current = number == frame.line
        marker = Span("→" if is_current else " ", "outlier" if is_current else "")
        lines.add(indent, marker, f"  {number:>{width}}  ", Span(line.rstrip(), "source"))
    return lines


def stop_title(stop: Stop) -> str:
    """`iteration 42 · forward layer.0.attention · breakpoint 1`."""
    title = "end of the iteration" if isinstance(stop.event, Iteration) else stop.event.title
    parts = [f"iteration {stop.iteration}", title]
    if stop.breakpoint is not None:
        kind = "watchpoint" if isinstance(stop.event, Watched) else "breakpoint"
        parts.append(f"{kind} {stop.breakpoint}")
    if stop.thread and stop.thread != "MainThread":
        parts.append(f"thread {stop.thread}")
    return " · ".join(parts)


def stop_view(report: StopReport, around: int = 2) -> View:
    """One block per cluster of equal stops, a line for those that do something else."""
    views: list[View] = [_cluster_view(cluster, around) for cluster in report.clusters]
    others = Table("", "", indent=2)
    for cluster in merge(report.others.items()):
        others.add(ranks_span(cluster.ranks), Span(cluster.answer, "outlier"))
    if others.rows:
        widest = max(len(_text(row[0])) for row in others.rows)
        others.gap = max(3, 10 - 2 - widest)
        views.append(others)
    if report.note:
        views.append(text(report.note))
    return Stack(views)


def _text(cell: object) -> str:
    return cell.text if isinstance(cell, Span) else str(cell)


def _cluster_view(cluster: StopCluster, around: int) -> View:
    stop = cluster.stop
    head = text((Span("● ", "outlier"), "stopped ", ranks_span(cluster.ranks), f" · {stop_title(stop)}"))
    if isinstance(stop.event, Watched):
        head.add(f"  was {stop.event.old}")
        head.add(f"  now {stop.event.new}" + _seen_at(stop.event))
    if stop.error:
        head.add("  ", Span(f"the condition raised: {stop.error}", "error"))
    body: View | None = None
    if stop.frames:
        head.add(f"  {place(stop.frames[0])}")
        body = source_lines(stop.frames[0], around)
    return stack(head, body, text(*(f"  {line}" for line in stop.inputs)))


def _seen_at(event: Watched) -> str:
    if event.at_event == "iteration":
        return "   seen at the end of the iteration"
    return f"   seen at {event.at_event} {event.at_subject}".rstrip() if event.at_event else ""


def stop_data(stop: Stop) -> dict[str, object]:
    """A stop for `--json`."""
    event = stop.event
    data: dict[str, object] = {
        "event": event.name,
        "subject": event.subject,
        "breakpoint": stop.breakpoint,
        "iteration": stop.iteration,
    }
    if isinstance(event, ModuleEvent):
        data |= {"class": event.class_name, "call": event.call}
        if isinstance(event, ForwardBegin | ForwardEnd):
            data["is_recompute"] = event.is_recompute
    if isinstance(event, Watched):
        data |= {"old": event.old, "new": event.new, "at": f"{event.at_event} {event.at_subject}".strip()}
    if stop.frames:
        data |= frame_data(stop.frames[0])
    if stop.inputs:
        data["inputs"] = list(stop.inputs)
    if stop.error:
        data["error"] = stop.error
    return data


def frame_data(frame: Frame) -> dict[str, object]:
    """A frame for `--json`."""
    return {"file": frame.file, "line": frame.line, "function": frame.function}


def frames_data(frames: Sequence[Frame]) -> list[dict[str, object]]:
    """Frames for `--json`."""
    return [frame_data(frame) for frame in frames]


def change_view(change: Change) -> View:
    """What happened while the user was typing."""
    if isinstance(change, StopAnnounced):
        return stop_view(change.report)
    if isinstance(change, RankWasLost):
        return text((Span("● ", "error"), Span(f"rank {change.rank} lost: {change.reason}", "error")))
    if isinstance(change, RankRan):
        return text((Span("● ", "outlier"), f"rank {change.rank} runs again: {change.reason}"))
    return text((Span("● ", "outlier"), f"rank {change.rank}: {change.text}"))
