"""`enable`: switch breakpoints on."""

from __future__ import annotations

from distdbg.console.breakpoints import require_rule, rule_data
from distdbg.console.console import Console
from distdbg.console.registry import command
from distdbg.console.report import Report
from distdbg.console.syntax import RuleIds
from distdbg.reporters.view import Text


@command("enable", family="stop")
def enable(console: Console, ids: RuleIds = ()) -> Report:
    """Let breakpoints stop the job again; without ID all of them.

    enable 1 2
    """
    view = Text()
    changed = []
    for rule in [require_rule(console, id) for id in ids or sorted(console.session.rules)]:
        console.session.enable_rule(rule.id, True)
        changed.append(rule_data(console.session.rules.get(rule.id, rule)))
        view.add(f"Breakpoint {rule.id} enabled")
    if not changed:
        view.add("There are no breakpoints.")
    return Report(view, [(console.session.focus, changed)])
