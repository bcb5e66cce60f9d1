"""`list`: source around the current line."""

from __future__ import annotations

import msgspec

from distdbg.console.announce import short_path
from distdbg.console.answers import clusters_of, report_answers
from distdbg.console.console import Console
from distdbg.console.registry import command
from distdbg.console.report import Report
from distdbg.reporters.view import Span, Text, ranks_span
from distdbg.schema.message import ReadSource, Source
from distdbg.schema.ranks import Ranks


@command("list", aliases=("l",), family="look", is_repeated=True)
def list_(console: Console, first: int | None = None, *, lines: int = 11) -> Report:
    """Show the source around the current line; again: what follows.

    list 40 --lines 20     twenty lines from line 40 on
    """
    start = first if first is not None else console.next_line
    gathered = console.session.ask(ReadSource(frame=console.session.frame, first=start, num_lines=lines))
    clusters = clusters_of(gathered, Source)
    view = Text()
    for cluster in clusters:
        source = cluster.answer
        if len(clusters) > 1:
            view.add(ranks_span(cluster.ranks))
        view.add(f"{short_path(source.file)} {source.function}".rstrip())
        width = len(str(source.lines[-1][0])) if source.lines else 0
        for number, line in source.lines:
            is_current = number == source.current
            marker = Span("→" if is_current else " ", "outlier")
            view.add("  ", marker, f" {number:>{width}}  ", Span(line.rstrip("\n"), "source"))
        if not source.lines:
            view.add("  no more lines")
    shown = [number for cluster in clusters for number, _ in cluster.answer.lines]
    console.next_line = max(shown) + 1 if shown else None
    data: list[tuple[Ranks, object]] = [(each.ranks, msgspec.structs.asdict(each.answer)) for each in clusters]
    return report_answers(view, gathered, data)
