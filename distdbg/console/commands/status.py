"""`status`: what every rank is doing."""

from __future__ import annotations

from distdbg.client.merge import merge
from distdbg.console.answers import report_answers
from distdbg.console.console import Console
from distdbg.console.registry import command
from distdbg.console.report import Report
from distdbg.reporters.view import Column, Meaning, Span, Table, ranks_span
from distdbg.schema.message import Ping, Pong
from distdbg.schema.ranks import Ranks


@command("status", aliases=("st",), family="ranks")
def status(console: Console, ranks: Ranks | None = None) -> Report:
    """Show what every rank is doing: stopped, running or lost, and where.

    status 0-3        these ranks only
    """
    session = console.session
    asked = ranks if ranks is not None else console.prefix or frozenset(session.states)
    alive = frozenset(rank for rank in asked if session.states[rank].status != "lost")
    gathered = session.ask(Ping(), alive)
    rows = [(rank, _describe(console, rank, gathered.replies.get(rank))) for rank in sorted(asked)]
    table = Table("ranks", "state", Column("iteration", "right"), "at")
    clusters = merge(rows)
    biggest = max((len(cluster.ranks) for cluster in clusters), default=0)
    for cluster in clusters:
        state, iteration, at = cluster.answer
        meaning: Meaning = "error" if state == "lost" else "outlier" if len(cluster.ranks) * 2 < biggest else ""
        table.add(ranks_span(cluster.ranks), Span(state, meaning), iteration, at)
    data: list[tuple[Ranks, object]] = [
        (each.ranks, {"state": each.answer[0], "iteration": int(each.answer[1] or 0), "at": each.answer[2]})
        for each in clusters
    ]
    return report_answers(table, gathered, data)


def _describe(console: Console, rank: int, reply: object) -> tuple[str, str, str]:
    state = console.session.states[rank]
    iteration = max(state.iteration, reply.iteration) if isinstance(reply, Pong) else state.iteration
    if state.status == "lost":
        return "lost", str(state.iteration), state.lost_reason
    if state.stop is not None:
        stop = state.stop
        at = stop.event.title + (f" · breakpoint {stop.breakpoint}" if stop.breakpoint is not None else "")
        return "stopped", str(stop.iteration), at
    return state.status, str(iteration), reply.activity if isinstance(reply, Pong) else ""
