"""`condition`: give a breakpoint a condition, or take it away."""

from __future__ import annotations

from distdbg.console.breakpoints import require_rule, rule_data
from distdbg.console.console import Console
from distdbg.console.registry import command
from distdbg.console.report import Report
from distdbg.console.syntax import Expression, RuleId
from distdbg.reporters.view import text


@command("condition", family="stop")
def condition(console: Console, id: RuleId, expression: Expression = "") -> Report:
    """Stop at a breakpoint only where an expression is true.

    Without EXPR it stops always.

        condition 1 x.isnan().any()
        condition 1
    """
    rule = require_rule(console, id)
    expression = expression.removeprefix("if ").strip()
    console.session.set_condition(id, expression)
    rule = console.session.rules.get(id, rule)
    outcome = f"if {expression}" if expression else "no condition"
    return Report(text(f"Breakpoint {id}: {outcome}"), [(console.session.focus, rule_data(rule))])
