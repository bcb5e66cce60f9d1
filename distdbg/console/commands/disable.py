"""`disable`: switch breakpoints off."""

from __future__ import annotations

from distdbg.console.breakpoints import require_rule, rule_data
from distdbg.console.console import Console
from distdbg.console.registry import command
from distdbg.console.report import Report
from distdbg.console.syntax import RuleIds
from distdbg.reporters.view import Text


@command("disable", family="stop")
def disable(console: Console, ids: RuleIds = ()) -> Report:
    """Keep breakpoints without stopping at them; without ID all of them.

    disable 1 2
    """
    view = Text()
    changed = []
    for rule in [require_rule(console, id) for id in ids or sorted(console.session.rules)]:
        console.session.enable_rule(rule.id, False)
        changed.append(rule_data(console.session.rules.get(rule.id, rule)))
        view.add(f"Breakpoint {rule.id} disabled")
    if not changed:
        view.add("There are no breakpoints.")
    return Report(view, [(console.session.focus, changed)])
