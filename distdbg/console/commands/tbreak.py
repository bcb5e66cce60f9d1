"""`tbreak`: a breakpoint that is deleted when it is hit."""

from __future__ import annotations

from typing import Literal

from distdbg.console.breakpoints import chosen_focus, read_location, report_rule
from distdbg.console.console import Console
from distdbg.console.registry import command
from distdbg.console.report import Report
from distdbg.console.syntax import Condition, Location


@command("tbreak", family="stop")
def tbreak(
    console: Console,
    where: Location,
    when: Literal["forward", "backward", "end"] = "",  # type: ignore[assignment]  # not given: forward, or a line
    condition: Condition = "",
) -> Report:
    """Stop once: like break, and deleted at its first hit.

    tbreak layer.0.attention
    """
    point = read_location(where, when, condition, is_temporary=True, focus=chosen_focus(console))
    return report_rule(*console.session.add_rule(point))
