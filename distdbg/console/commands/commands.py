"""`commands`: lines to run whenever a breakpoint has stopped the job."""

from __future__ import annotations

from distdbg.console.breakpoints import require_rule, rule_data
from distdbg.console.console import Console
from distdbg.console.registry import command
from distdbg.console.report import Report
from distdbg.console.syntax import RuleId
from distdbg.errors import UsageError
from distdbg.reporters.units import plural
from distdbg.reporters.view import text


@command("commands", family="stop")
def commands(console: Console, id: RuleId | None = None) -> Report:
    """Run lines whenever a breakpoint has stopped the job.
     ID is that of the newest breakpoint when it is not given. Type the lines, then end. No lines take
    the commands away. They also run when the stop comes while you type; a continue among them goes on
    by itself.

        commands 1
        print loss.item()
        continue
        end
    """
    if id is None:
        if not console.session.rules:
            raise UsageError("There is no breakpoint yet.")
        id = max(console.session.rules)
    rule = require_rule(console, id)
    if console.read_more is None:
        raise UsageError("commands needs the lines that follow it, closed by end.")
    lines: list[str] = []
    while (line := _read(console)) != "end":
        lines.append(line)
    rule.commands[:] = lines
    console.rule_commands[id] = rule.commands
    outcome = f"runs {plural(len(lines), 'line')} at each stop" if lines else "runs nothing at its stops"
    return Report(text(f"Breakpoint {id} {outcome}"), [(console.session.focus, rule_data(rule))])


def _read(console: Console) -> str:
    assert console.read_more is not None
    try:
        return console.read_more("> ").strip()
    except EOFError:
        return "end"
