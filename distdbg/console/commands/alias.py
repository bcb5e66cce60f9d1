"""`alias`: a name for a command line."""

from __future__ import annotations

from distdbg.console.console import Console
from distdbg.console.registry import command
from distdbg.console.report import Report
from distdbg.console.syntax import CommandLine
from distdbg.errors import UsageError
from distdbg.reporters.view import Table, text


@command("alias", family="other")
def alias(console: Console, name: str = "", line: CommandLine = "") -> Report:
    """Give a command line a name.
     Without a name all are shown, without a line the name is taken away. %1, %2 and %* in the line
    stand for the words that follow the name; without any of them they follow the line.

        alias pw placements layer.%1.attention.wq.weight
        pw 3
    """
    if name and not name.isidentifier():
        raise UsageError(f"{name!r} cannot be a name: letters, digits and _ can.")
    if name and line:
        console.aliases[name] = line
    elif name and console.aliases.pop(name, None) is None:
        raise UsageError(f"No alias {name!r}.")
    if name:
        return Report(text(f"{name} is {line}" if line else f"{name} is no alias any more"))
    table = Table("", "")
    for each, meaning in sorted(console.aliases.items()):
        table.add(each, meaning)
    return Report(table if console.aliases else text("No aliases."), [(console.session.focus, console.aliases)])
