"""What could stand at the end of a line. Pure: no prompt_toolkit, so that the web page and tests use it too."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from distdbg.console.registry import load_commands
from distdbg.console.settings import setting_names
from distdbg.console.syntax import Parameter
from distdbg.errors import DistdbgError
from distdbg.schema.message import Names

if TYPE_CHECKING:
    from distdbg.console.console import Console

_VALUES = ("input", "output")


@dataclass(frozen=True)
class Candidate:
    """`text` replaces the last `length` characters; `meta` says what it is."""

    text: str
    length: int
    meta: str = ""


def complete(console: Console, line: str) -> list[Candidate]:
    """Candidates for the end of `line`."""
    try:
        return list(_complete(console, line))
    except DistdbgError:
        return []


def _complete(console: Console, line: str) -> Iterator[Candidate]:
    line = line.lstrip()
    if line.startswith("@"):
        prefix, space, rest = line.partition(" ")
        if not space:
            yield from _ranks(console, prefix[1:])
            return
        line = rest.lstrip()
    word, space, rest = line.partition(" ")
    if not space:
        yield from _command_names(console, word)
        return
    found, text = console.split_command(line)
    parameter, typed = _parameter_at([*found.syntax.arguments], text if text or rest else "")
    if typed.startswith("--") or (typed == "-" and found.syntax.flags):
        for flag in found.syntax.flags:
            name = "--" + flag.name.replace("_", "-")
            if name.startswith(typed):
                yield Candidate(name, len(typed), "flag")
        return
    if parameter is not None:
        yield from _values(console, parameter, typed)


def _parameter_at(arguments: list[Parameter], text: str) -> tuple[Parameter | None, str]:
    """The parameter that the last word belongs to, and that word so far."""
    words = text.split(" ")
    typed = words[-1]
    for number, word in enumerate(words):
        is_last = number == len(words) - 1
        if not arguments:
            return None, typed
        if arguments[0].kind.is_rest or arguments[0].type == "ints":
            return arguments[0], typed
        if is_last:
            return arguments[0], typed
        if word:
            arguments = arguments[1:]
    return None, typed


def _values(console: Console, parameter: Parameter, typed: str) -> Iterable[Candidate]:
    if parameter.choices:
        return [Candidate(choice, len(typed)) for choice in parameter.choices if choice.startswith(typed)]
    match parameter.kind.completes:
        case "commands":
            return _command_names(console, typed)
        case "modules":
            return dotted(console.session.names().modules, typed, _classes(console))
        case "locations":
            names = dotted(console.session.names().modules, typed, _classes(console))
            return [*names, *(_files(typed) if not names else ())]
        case "names":
            local = _words([*_VALUES, *console.local_names()], typed)
            return [*local, *dotted(_all_names(console.session.names()), typed, _classes(console))]
        case "tensors":
            start = max(typed.rfind(mark) for mark in "([{ ,=") + 1
            local = _words([name for name in console.local_names() if typed[start:]], typed[start:])
            return [*local, *dotted(_all_names(console.session.names()), typed[start:], _classes(console))]
        case "files":
            return _files(typed)
        case "ranks":
            return list(_ranks(console, typed))
        case "settings":
            return _words(setting_names(), typed)
        case "rules":
            titles = {str(id): rule.breakpoint.title for id, rule in console.session.rules.items()}
            return [Candidate(id, len(typed), title) for id, title in titles.items() if id.startswith(typed)]
    return []


def _words(words: Iterable[str], typed: str) -> list[Candidate]:
    return [Candidate(word, len(typed)) for word in words if word.startswith(typed)]


def _command_names(console: Console, typed: str) -> list[Candidate]:
    commands = load_commands()
    names = [Candidate(name, len(typed), commands[name].summary) for name in sorted(commands) if name != "!"]
    aliases = [Candidate(name, len(typed), line) for name, line in sorted(console.aliases.items())]
    return [each for each in names + aliases if each.text.startswith(typed)]


def _ranks(console: Console, typed: str) -> Iterator[Candidate]:
    """Words, axes, and after `AXIS=` its indices."""
    context = console.session.context()
    start = typed.rfind(",") + 1
    lead, term = typed[:start], typed[start:]
    bare = term.removeprefix("!")
    axis, equals, _ = bare.partition("=")
    if equals:
        indices = sorted({where[axis] for where in context.coordinates.values() if axis in where})
        options = {f"{axis}={index}": "" for index in indices}
    else:
        options = dict.fromkeys(("all", "stopped", "running"), "") | {f"{name}=": "mesh axis" for name in context.axes}
    for option, meta in options.items():
        if option.startswith(bare):
            yield Candidate(lead + term[: len(term) - len(bare)] + option, len(typed), meta)


def _all_names(names: Names) -> tuple[str, ...]:
    return (*names.modules, *names.tensors)


def _classes(console: Console) -> dict[str, str]:
    """Names with what they are: a module's class where it is known, `parameter` for tensors."""
    return console.describe_names()


def dotted(names: Iterable[str], typed: str, metas: dict[str, str]) -> list[Candidate]:
    """One dotted part at a time: after `layer.` the parts below it, `layer.0` before `layer.0.attention`.

    A name may begin at any component, as it may when it is typed in full: `att` finds `layer.0.attention` once
    nothing begins at the front.
    """
    names = [name for name in names if name]
    found = _next_parts(names, typed, metas)
    if found or not typed:
        return found
    inner = [name for name in names if f".{typed}" in f".{name}"]
    tails = {}
    for name in inner:
        at = f".{name}".find(f".{typed}")
        end = name.find(".", at + len(typed))
        whole = name if end < 0 else name[:end]
        tails[whole] = metas.get(whole, "")
    return [Candidate(whole, len(typed), meta) for whole, meta in list(tails.items())[:50]]


def _next_parts(names: list[str], typed: str, metas: dict[str, str], length: int | None = None) -> list[Candidate]:
    parts: dict[str, str] = {}
    for name in names:
        if name.startswith(typed):
            end = name.find(".", len(typed))
            part = name if end < 0 else name[:end]
            parts.setdefault(part, metas.get(part, ""))
    if list(parts) == [typed]:  # complete: offer what is below
        is_parent = any(name.startswith(typed + ".") for name in names)
        return _next_parts(names, typed + ".", metas, len(typed)) if is_parent else []
    length = len(typed) if length is None else length
    return [Candidate(part, length, meta) for part, meta in parts.items() if part != typed]


def _files(typed: str) -> list[Candidate]:
    folder, _, start = typed.rpartition("/")
    where = os.path.expanduser(folder + "/" if folder or typed.startswith("/") else ".")
    try:
        entries = sorted(os.scandir(where), key=lambda entry: entry.name)
    except OSError:
        return []
    found = []
    for entry in entries:
        if entry.name.startswith(start) and (start or not entry.name.startswith(".")):
            path = f"{folder}/{entry.name}" if folder or typed.startswith("/") else entry.name
            found.append(Candidate(path + ("/" if entry.is_dir() else ""), len(typed)))
    return found
