"""`where`: which ranks are where, with their stacks."""

from __future__ import annotations

from distdbg.client.merge import Cluster
from distdbg.console.announce import frames_data, place, source_lines, stop_title
from distdbg.console.answers import clusters_of, report_answers
from distdbg.console.console import Console
from distdbg.console.registry import command
from distdbg.console.report import Report
from distdbg.reporters.view import Span, Table, View, ranks_span, stack, text
from distdbg.schema.message import ReadStack, Stack
from distdbg.schema.ranks import Ranks


@command("where", aliases=("w", "bt"), family="look")
def where(console: Console, ranks: Ranks | None = None, *, depth: int = 10) -> Report:
    """Show where the ranks in focus are, innermost frame first.
     Ranks in the same place share an entry, so the odd rank stands out. A running rank's stack is a
    live sample.

        where 0-3,7        these ranks only
        where --depth 3    the three innermost frames
    """
    gathered = console.session.ask(ReadStack(depth=depth, context=console.settings.context), ranks)
    clusters = clusters_of(gathered, Stack, _identity)
    views = [_view(console, cluster) for cluster in clusters]
    data: list[tuple[Ranks, object]] = [(each.ranks, frames_data(each.answer.frames)) for each in clusters]
    return report_answers(stack(*views), gathered, data)


def _identity(answer: Stack) -> object:
    """Equal places: files, lines and functions, and the same event; not the hit count or the clock."""
    stop = answer.stop
    title = (stop.event.title, stop.breakpoint, stop.iteration) if stop else None
    return (title, tuple((frame.file, frame.line, frame.function) for frame in answer.frames))


def _view(console: Console, cluster: Cluster[Stack]) -> View:
    stop = cluster.answer.stop
    title = f"stopped · {stop_title(stop)}" if stop else "running (live sample)"
    head = text((ranks_span(cluster.ranks), f"   {title}"))
    if not cluster.answer.frames:
        return stack(head, text("  no Python frame of the program"))
    table = Table("", "", "", indent=2, gap=2)
    selected = console.session.frame if stop else 0
    for number, frame in enumerate(cluster.answer.frames):
        marker = Span("→", "outlier") if number == selected and stop else ""
        table.add(marker or " ", str(number), place(frame))
    index = selected if selected < len(cluster.answer.frames) else 0
    return stack(head, table, source_lines(cluster.answer.frames[index], console.settings.context))
