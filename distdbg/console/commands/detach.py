"""`detach`: leave the job as it was found."""

from __future__ import annotations

import msgspec

from distdbg.client.merge import merge
from distdbg.console.console import Console
from distdbg.console.registry import command
from distdbg.console.report import Report
from distdbg.errors import DistdbgError
from distdbg.reporters.units import plural
from distdbg.reporters.view import Span, Text, ranks_span
from distdbg.schema.message import Detached
from distdbg.schema.ranks import Ranks


@command("detach", family="run")
def detach(console: Console) -> Report:
    """Take every breakpoint and hook away, let the ranks run and leave."""
    return leave(console)


def leave(console: Console) -> Report:
    """Detach and end the console; what could not be taken away is said."""
    there = console.session.context().ranks
    answers = console.session.detach()
    console.is_done = True
    gone = {rank: answer for rank, answer in answers.items() if isinstance(answer, Detached)}
    view = Text()
    error: DistdbgError | None = None
    timeouts = sorted({seconds for answer in gone.values() for seconds in answer.timeouts_s.values()})
    if gone:
        restored = ", timeouts restored to " + " and ".join(f"{s:g} s" for s in timeouts) if timeouts else ""
        view.add(f"Detached: {plural(len(gone), 'rank')} running, breakpoints and hooks removed{restored}.")
    else:
        view.add("Detached: no rank is left.")
    problems = {rank: answer.problems for rank, answer in gone.items() if answer.problems}
    problems |= {rank: (answer.message,) for rank, answer in answers.items() if not isinstance(answer, Detached)}
    problems |= dict.fromkeys(there - answers.keys(), ("did not answer; it goes on when its lease is over",))
    for cluster in merge(problems.items()):
        for problem in cluster.answer:
            view.add(ranks_span(cluster.ranks, "error"), "   ", Span(problem, "error"))
            error = DistdbgError(problem)
    data: list[tuple[Ranks, object]] = [
        (each.ranks, msgspec.structs.asdict(each.answer)) for each in merge(gone.items())
    ]
    return Report(view, data, frozenset(answers), error=error)
