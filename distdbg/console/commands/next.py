"""`next`: go on to the next module, past the children of this one."""

from __future__ import annotations

from distdbg.console.console import Console
from distdbg.console.registry import command
from distdbg.console.report import Report
from distdbg.console.stopping import step_times


@command("next", aliases=("n",), family="run", is_repeated=True)
def next(console: Console, count: int = 1) -> Report:
    """Go on to the next module, past the children of the current one.

    next N does so N times, unless a breakpoint stops it before.
    """
    return step_times(console, "next", count)
