"""`help`: all commands, or one."""

from __future__ import annotations

from distdbg.console.console import Console
from distdbg.console.registry import FAMILIES, find_command, load_commands
from distdbg.console.registry import command as register
from distdbg.console.report import Report
from distdbg.console.syntax import CommandName
from distdbg.reporters.view import Span, Table, Text, View, stack, text


@register("help", aliases=("h", "?"), family="other")
def help(console: Console, command: CommandName = "") -> Report:
    """Show all commands, or one command in full."""
    if command:
        found = find_command(command)
        view = Text()
        view.add(Span(found.usage, "title"), f"   ({', '.join(found.aliases)})" if found.aliases else "")
        view.add(found.summary)
        if found.details:
            view.lines += ["", *found.details.split("\n")]
        return Report(view, [(console.session.focus, {"usage": found.usage, "summary": found.summary})])
    table = Table("", "", "", gap=2)
    commands = load_commands().values()
    for family in FAMILIES:
        table.add(Span(family, "title"))
        for each in sorted((each for each in commands if each.family == family), key=lambda each: each.name):
            table.add("  " + each.name, ", ".join(each.aliases), each.summary)
    more = text(
        "",
        "help COMMAND tells more. Any unique beginning of a name will do; an empty line repeats a run command.",
        "@RANKS COMMAND runs it on these ranks only: @0-3, @tp=1, @stopped, @!0.",
    )
    views: list[View] = [table, more]
    return Report(stack(*views), [(console.session.focus, [each.name for each in commands])])
