"""`quit`: detach and leave."""

from __future__ import annotations

from distdbg.console.commands.detach import leave
from distdbg.console.console import Console
from distdbg.console.registry import command
from distdbg.console.report import Report


@command("quit", aliases=("q", "exit"), family="run")
def quit(console: Console) -> Report:
    """Leave: the same as detach and as Ctrl-D. The job goes on."""
    return leave(console)
