"""What continue, step and their kin share: let the ranks go, wait, and report the stop."""

from __future__ import annotations

from typing import TYPE_CHECKING

from distdbg.client.state import StopReport
from distdbg.client.stops import STEP_RULE
from distdbg.console.announce import stop_data, stop_view
from distdbg.console.report import Report
from distdbg.errors import NotStoppedError, RankLost, UsageError
from distdbg.reporters.view import Span, text
from distdbg.schema.ranks import Ranks, format_ranks

if TYPE_CHECKING:
    from distdbg.console.console import Console
    from distdbg.schema.stop import Stop


def report_stop(console: Console, stop: StopReport) -> Report:
    """The stop as a command's outcome."""
    clusters: list[tuple[Ranks, object]] = [(each.ranks, stop_data(each.stop)) for each in stop.clusters]
    clusters += [(frozenset((rank,)), {"event": None, "activity": phrase}) for rank, phrase in stop.others.items()]
    view = stop_view(stop, console.settings.context)
    return Report(view, clusters, stop.ranks | frozenset(stop.others), stop=stop)


def wait_for_stop(console: Console) -> Report:
    """Wait until the ranks have stopped or the job has ended, as long as the setting `timeout` allows."""
    session = console.session
    console.is_waiting = True
    try:
        stop = session.wait(console.settings.timeout or None)
        if stop is not None:
            console.note_announced(stop)
    finally:
        console.is_waiting = False
    if stop is not None:
        return report_stop(console, stop)
    left = [rank for rank, state in session.states.items() if state.status != "lost"]
    if left:
        raise KeyboardInterrupt  # wait() left early because of Ctrl-C
    return _report_end(console)


def step_times(console: Console, how: str, count: int) -> Report:
    """Step `count` times; a stop that is not the step's own ends it."""
    if count < 1:
        raise UsageError("N is at least 1.")
    stops_in_focus(console)
    while True:
        console.session.step(how)
        report = wait_for_stop(console)
        count -= 1
        if not count or report.stop is None or not _is_whole_step(report.stop):
            return report


def _is_whole_step(stop: StopReport) -> bool:
    return not stop.others and all(each.stop.rule == STEP_RULE for each in stop.clusters)


def _report_end(console: Console) -> Report:
    states = console.session.states
    ranks = frozenset(states)
    reasons = {rank: state.lost_reason or "exited" for rank, state in states.items()}
    crashed = {rank: reason for rank, reason in reasons.items() if not _is_normal_end(reason)}
    data: list[tuple[Ranks, object]] = [(ranks, {"event": "exited", "reasons": reasons})]
    if crashed:
        sentence = "; ".join(f"rank {rank}: {reason}" for rank, reason in crashed.items())
        error = RankLost(f"The job has ended. {sentence}.")
        return Report(text(Span(str(error), "error")), data, ranks, error=error)
    return Report(text(f"The job has ended: ranks {format_ranks(ranks)} exited."), data, ranks)


def _is_normal_end(reason: str) -> bool:
    return reason in ("", "exited")  # a rank that ends by itself says so; one that is killed cannot


def stops_in_focus(console: Console) -> dict[int, Stop]:
    """The stops of the focus's ranks; raises NotStoppedError when there is none."""
    session = console.session
    stops = {rank: session.states[rank].stop for rank in sorted(session.focus) if rank in session.states}
    found = {rank: stop for rank, stop in stops.items() if stop is not None}
    if not found:
        raise NotStoppedError("No rank in focus is stopped. break MODULE and continue, or pause, stops them.")
    return found
