"""`locals`: the names of the selected frame."""

from __future__ import annotations

from distdbg.client.merge import merge
from distdbg.console.answers import clusters_of, replies_of, report_answers
from distdbg.console.console import Console
from distdbg.console.registry import command
from distdbg.console.report import Report
from distdbg.reporters.view import Table, ranks_span
from distdbg.schema.message import Locals, ReadLocals
from distdbg.schema.ranks import Ranks


@command("locals", family="look")
def locals(console: Console) -> Report:
    """Show the local names of the selected frame.

    Tensors are shown by shape and placement. A name that is the same on all ranks has one line.
    """
    gathered = console.session.ask(ReadLocals(frame=console.session.frame))
    replies = replies_of(gathered, Locals)
    names = dict.fromkeys(name for reply in replies.values() for name, _ in reply.locals)
    table = Table("", "", "")
    for name in names:
        clusters = merge((rank, dict(reply.locals).get(name, "-")) for rank, reply in replies.items())
        for index, cluster in enumerate(clusters):
            ranks = ranks_span(cluster.ranks) if len(clusters) > 1 else ""
            table.add(name if index == 0 else "", cluster.answer, ranks)
    data: list[tuple[Ranks, object]] = [
        (cluster.ranks, dict(cluster.answer.locals)) for cluster in clusters_of(gathered, Locals)
    ]
    return report_answers(table, gathered, data)
