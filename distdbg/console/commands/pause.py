"""`pause`: stop the running ranks where they are."""

from __future__ import annotations

from distdbg.console.console import Console
from distdbg.console.registry import command
from distdbg.console.report import Report
from distdbg.console.stopping import wait_for_stop


@command("pause", aliases=("interrupt",), family="run")
def pause(console: Console) -> Report:
    """Stop the running ranks where they are.

    They stop together at the next end of an iteration if it comes soon, else each at its next bytecode.
    A rank that is blocked inside a collective is shown as such and stops when it returns.
    """
    console.session.pause()
    return wait_for_stop(console)
