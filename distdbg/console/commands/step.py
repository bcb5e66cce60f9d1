"""`step`: go on to the next module."""

from __future__ import annotations

from distdbg.console.console import Console
from distdbg.console.registry import command
from distdbg.console.report import Report
from distdbg.console.stopping import step_times
from distdbg.errors import UsageError

_LATER = ("decision", "collective", "redistribute", "op", "iteration")


@command("step", aliases=("s",), family="run", is_repeated=True)
def step(console: Console, what: str = "module", count: int = 1) -> Report:
    """Go on to the next module that begins or ends, into children.
     step hooks every module until then, which costs a little time at each of them. step module is the
    same. step N steps N times, unless a breakpoint stops it before.
    """
    if what.isdigit():
        what, count = "module", int(what)
    if what in _LATER:
        raise UsageError(f"step {what} is not in this version. step (or step module) goes on to the next module.")
    if what != "module":
        raise UsageError(f"{what!r} cannot be stepped by. Expected module or a count.")
    return step_times(console, "step", count)
