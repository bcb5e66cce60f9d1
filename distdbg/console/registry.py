"""The commands by name. A command is a typed function; its signature is its syntax, its docstring its help."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from distdbg.client.nearest import nearest_names
from distdbg.console.later import LATER
from distdbg.console.report import Report
from distdbg.console.syntax import Syntax, read_syntax
from distdbg.errors import UsageError

if TYPE_CHECKING:
    from distdbg.console.console import Console

FAMILIES = ("ranks", "run", "stop", "look", "other")


@dataclass(frozen=True)
class Command:
    """One word at the prompt. `is_repeated`: an empty line after it runs it again."""

    name: str
    aliases: tuple[str, ...]
    family: str
    function: Callable[..., Report]
    syntax: Syntax
    is_repeated: bool = False

    @property
    def summary(self) -> str:
        """The docstring's first line."""
        return inspect.cleandoc(self.function.__doc__ or "").partition("\n")[0]

    @property
    def details(self) -> str:
        """The rest of the docstring."""
        text = inspect.cleandoc(self.function.__doc__ or "").partition("\n")[2].strip()
        # Where there are only examples, the formatter and cleandoc take their indentation away.
        is_example = all(line.startswith((self.name, "@")) for line in text.split("\n"))
        return textwrap.indent(text, "    ") if is_example else text

    @property
    def usage(self) -> str:
        """The command line that it expects."""
        return f"{self.name} {self.syntax.usage}".strip()

    def run(self, console: Console, text: str) -> Report:
        """Read `text`, the words after the name, and run."""
        try:
            arguments, flags = self.syntax.parse(text, lambda: console.session.context())
        except UsageError as error:
            raise type(error)(f"{error}\nUsage: {self.usage}") from None
        first: Any = next(iter(inspect.signature(self.function).parameters))
        return self.function(console if first == "console" else console.session, *arguments, **flags)


REGISTRY: dict[str, Command] = {}
"""Every command by its full name."""


def command(
    name: str, *, family: str, aliases: tuple[str, ...] = (), is_repeated: bool = False
) -> Callable[[Callable[..., Report]], Callable[..., Report]]:
    """Register the decorated function as the command `name`."""

    def register(function: Callable[..., Report]) -> Callable[..., Report]:
        REGISTRY[name] = Command(name, aliases, family, function, read_syntax(function), is_repeated)
        return function

    return register


def load_commands() -> dict[str, Command]:
    """Import every file of `commands/`; each registers itself."""
    from distdbg.console import commands

    for module in pkgutil.iter_modules(commands.__path__):
        importlib.import_module(f"{commands.__name__}.{module.name}")
    return REGISTRY


def find_command(word: str) -> Command:
    """The command of a name, a letter or a unique prefix; raises UsageError with the nearest one."""
    commands = load_commands()
    if word in commands:
        return commands[word]
    for each in commands.values():
        if word in each.aliases:
            return each
    if word in LATER:
        raise UsageError(f"{word} is not in this version. {LATER[word]}")
    found = sorted(name for name in commands if name.startswith(word))
    if len(found) == 1:
        return commands[found[0]]
    if found:
        raise UsageError(f"{word!r} is short for several commands: {', '.join(found)}.")
    near = nearest_names(word, [*commands, *LATER], limit=1)
    if near and near[0] in LATER:
        raise UsageError(f"No command {word!r}; {near[0]} is not in this version either. {LATER[near[0]]}")
    hint = f"Nearest: {near[0]}." if near else "help lists them."
    raise UsageError(f"No command {word!r}. {hint}")
