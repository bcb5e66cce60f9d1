"""`info`: breakpoints, and other words that gdb users type."""

from __future__ import annotations

from typing import Literal

from distdbg.console.breakpoints import rule_data
from distdbg.console.console import Console
from distdbg.console.registry import command, find_command
from distdbg.console.report import Report
from distdbg.reporters.view import Column, Table, Text, ranks_span, stack, text

_SAME = {"locals": "locals", "stack": "where", "ranks": "status", "threads": "status", "source": "list"}


@command("info", family="stop")
def info(
    console: Console, what: Literal["breakpoints", "locals", "stack", "ranks", "source"] = "breakpoints"
) -> Report:
    """Show the breakpoints: where, for which ranks, how often hit.

    info locals, info stack, info ranks and info source are locals, where, status and list.
    """
    if what != "breakpoints":
        return find_command(_SAME[what]).run(console, "")
    rules = [console.session.rules[id] for id in sorted(console.session.rules)]
    if not rules:
        return Report(text("No breakpoints. break MODULE sets one."), [(console.session.focus, [])])
    table = Table(Column("id", "right"), "stops at", "ranks", Column("hits", "right"), "state", "condition")
    below = Text()
    for rule in rules:
        state = "on" if rule.is_enabled else "off"
        if rule.is_temporary:
            state += ", once"
        if rule.ignore_count:
            state += f", passes {rule.ignore_count}"
        ranks = "all" if rule.focus is None else ranks_span(rule.focus)
        table.add(str(rule.id), rule.breakpoint.title, ranks, str(rule.num_hits), state, rule.condition)
        if rule.commands:
            below.add(f"at {rule.id}: " + "; ".join(rule.commands))
    return Report(stack(table, below), [(console.session.focus, [rule_data(rule) for rule in rules])])
