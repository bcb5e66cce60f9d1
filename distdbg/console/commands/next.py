"""`next`: go on to the next module, past the children of this one."""

from __future__ import annotations

from distdbg.console.console import Console
from distdbg.console.registry import command
from distdbg.console.report import Report
from distdbg.console.stopping import stops_in_focus, wait_for_stop


@command("next", aliases=("n",), family="run", is_repeated=True)
def next(console: Console) -> Report:
    """Go on to the next module, past the children of the current one."""
    stops_in_focus(console)
    console.session.step("next")
    return wait_for_stop(console)
