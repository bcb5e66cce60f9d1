"""`delete`: take breakpoints away."""

from __future__ import annotations

from distdbg.console.breakpoints import require_rule, rule_data
from distdbg.console.console import Console
from distdbg.console.registry import command
from distdbg.console.report import Report
from distdbg.console.syntax import RuleIds
from distdbg.reporters.view import Text


@command("delete", aliases=("clear",), family="stop")
def delete(console: Console, ids: RuleIds = ()) -> Report:
    """Take breakpoints away; without ID all of them, after asking.

    delete 1 2
    """
    view = Text()
    rules = [require_rule(console, id) for id in ids or sorted(console.session.rules)]
    if not ids and len(rules) > 1 and not console.confirm(f"Delete all {len(rules)} breakpoints?"):
        view.add("Nothing deleted.")
        return Report(view)
    for rule in rules:
        console.session.delete_rule(rule.id)
        view.add(f"Deleted breakpoint {rule.id}: {rule.breakpoint.title}")
    if not rules:
        view.add("There are no breakpoints.")
    return Report(view, [(console.session.focus, [rule_data(rule) for rule in rules])])
