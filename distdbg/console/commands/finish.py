"""`finish`: go on to the end of the current module's forward."""

from __future__ import annotations

from distdbg.console.console import Console
from distdbg.console.registry import command
from distdbg.console.report import Report
from distdbg.console.stopping import stops_in_focus, wait_for_stop


@command("finish", aliases=("fin",), family="run")
def finish(console: Console) -> Report:
    """Go on to the end of the current module's forward.

    output is there then. The end of a call that began before any hook was in its module cannot be
    seen: it is over when the next module begins, and the stop is there.
    """
    stops_in_focus(console)
    console.session.step("finish")
    return wait_for_stop(console)
