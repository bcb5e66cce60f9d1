"""`history`: the lines typed in this session."""

from __future__ import annotations

from distdbg.console.console import Console
from distdbg.console.registry import command
from distdbg.console.report import Report
from distdbg.reporters.view import Column, Table


@command("history", family="other")
def history(console: Console, count: int = 20) -> Report:
    """Show the last COUNT lines of this session."""
    table = Table(Column(align="right"), "", gap=2)
    numbered = list(enumerate(console.history, 1))[-count:]
    for number, line in numbered:
        table.add(str(number), line)
    return Report(table, [(console.session.focus, [line for _, line in numbered])])
