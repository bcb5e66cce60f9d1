"""`ignore`: pass a breakpoint some times before it stops."""

from __future__ import annotations

from distdbg.console.breakpoints import require_rule, rule_data
from distdbg.console.console import Console
from distdbg.console.registry import command
from distdbg.console.report import Report
from distdbg.console.syntax import RuleId
from distdbg.errors import UsageError
from distdbg.reporters.units import plural
from distdbg.reporters.view import text


@command("ignore", family="stop")
def ignore(console: Console, id: RuleId, count: int) -> Report:
    """Pass breakpoint ID the next COUNT times.

    ignore 1 10
    """
    rule = require_rule(console, id)
    if count < 0:
        raise UsageError("COUNT cannot be negative.")
    console.session.ignore(id, count)
    rule = console.session.rules.get(id, rule)
    outcome = f"passes the next {plural(count, 'hit')}" if count else "stops at the next hit"
    return Report(text(f"Breakpoint {id} {outcome}"), [(console.session.focus, rule_data(rule))])
