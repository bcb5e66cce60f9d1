"""`exec`: run a statement on each rank."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from distdbg.client.gather import Gathered
from distdbg.client.merge import Cluster
from distdbg.console.answers import clusters_of, failure_of, report_answers
from distdbg.console.console import Console
from distdbg.console.registry import command
from distdbg.console.report import Report
from distdbg.console.syntax import Statement
from distdbg.errors import WouldDeadlock
from distdbg.reporters.view import Column, Span, Table, Text, View, ranks_span
from distdbg.schema.message import Done, Evaluate, Evaluated
from distdbg.schema.ranks import Ranks

_GROUP = re.compile(r"\(ranks ([\d,-]+)\)")


@command("exec", family="look")
def exec_(console: Console, statement: Statement) -> Report:
    """Run a Python statement on each rank in focus.
     It runs on the stopped thread and changes the job: a name that it assigns is set in the selected
    frame.

    A line that ends in a colon is followed by its block, closed by an empty line.

        exec torch.cuda.empty_cache()
    """
    if statement.rstrip().endswith(":") and console.read_more is not None:
        statement = "\n".join([statement, *_block(console.read_more)])
    return evaluate(console, statement, "exec")


def _block(read_more: Callable[[str], str]) -> Iterator[str]:
    """The lines of a block, up to an empty one."""
    try:
        while line := read_more("... ").rstrip():
            yield line
    except EOFError:
        return


def evaluate(console: Console, python: str, mode: str) -> Report:
    """Ask the ranks in focus, show equal values once."""
    session = console.session
    request = Evaluate(text=python, mode=mode, frame=session.frame, ranks=tuple(sorted(session.focus)))
    gathered = session.ask(request)
    _raise_refusal(gathered)
    if mode == "exec" and any(isinstance(reply, Done) for reply in gathered.replies.values()):
        return report_answers(Text(), gathered, [(frozenset(gathered.replies), {"repr": ""})])
    clusters = clusters_of(gathered, Evaluated)
    data: list[tuple[Ranks, object]] = [(each.ranks, _data(each.answer)) for each in clusters]
    is_silent = mode == "exec" and all(each.answer.repr in ("", "None") for each in clusters)
    notes = any(each.answer.note for each in clusters)
    view: View = Text() if is_silent and not notes else _view(clusters)
    return report_answers(view, gathered, data)


def _raise_refusal(gathered: Gathered) -> None:
    """A collective that was refused everywhere, with the ways that there are instead."""
    refused = [each for each in gathered.failures.values() if each.error == "WouldDeadlock"]
    if not refused or gathered.replies:
        return
    ways = "values NAME[...] needs no collective"
    group = _GROUP.search(refused[0].message)
    ways += f"; @{group[1]} print ... runs it on the whole group." if group else "."
    raise WouldDeadlock(f"{failure_of(gathered)}\n{ways}")


def _data(answer: Evaluated) -> dict[str, object]:
    data: dict[str, object] = {"repr": answer.repr}
    return data | ({"note": answer.note} if answer.note else {})


def _view(clusters: list[Cluster[Evaluated]]) -> View:
    """One row per value; a note equal to the one above is a ditto mark. Many-line values stand below their ranks."""
    if any("\n" in each.answer.repr for each in clusters):
        lines = Text()
        for each in clusters:
            lines.add(ranks_span(each.ranks), Span(f"   {each.answer.note}".rstrip(), "outlier"))
            lines.lines += [f"  {line}" for line in each.answer.repr.split("\n")]
        return lines
    table = Table("", Column(align="right" if _all_numbers(clusters) else "left"), "")
    before = ""
    for each in clusters:
        note = each.answer.note
        table.add(ranks_span(each.ranks), each.answer.repr, Span('"' if note and note == before else note, "outlier"))
        before = note
    return table


def _all_numbers(clusters: list[Cluster[Evaluated]]) -> bool:
    return all(each.answer.repr.lstrip("-").replace(".", "", 1).replace("e-", "", 1).isdigit() for each in clusters)
