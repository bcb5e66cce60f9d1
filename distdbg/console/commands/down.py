"""`down`: select the frame that the current one called."""

from __future__ import annotations

from distdbg.console.commands.up import select_frame
from distdbg.console.console import Console
from distdbg.console.registry import command
from distdbg.console.report import Report


@command("down", aliases=("d",), family="look", is_repeated=True)
def down(console: Console, count: int = 1) -> Report:
    """Select the frame that the current one called.

    COUNT frames down.
    """
    return select_frame(console, console.session.frame - count)
