"""A function's signature as the syntax of a command: what it takes, how its words are read, its usage line.

Positional parameters are arguments, keyword-only ones are flags. An annotation says how the word is read and what
completes it: int, float, bool (a flag without a value), Literal choices (any unique prefix), Ranks, tuple[int, ...]
(all remaining words), or one of the kinds below.
"""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from distdbg.errors import UsageError
from distdbg.schema.ranks import RankContext, parse_ranks


@dataclass(frozen=True)
class Kind:
    """How a str argument is written: `is_rest` takes the rest of the line, `keyword` must stand before it."""

    metavar: str = ""
    completes: str = ""
    is_rest: bool = False
    keyword: str = ""


ModuleName = Annotated[str, Kind("MODULE", "modules")]
ModulePattern = Annotated[str, Kind("GLOB", "modules")]
TensorName = Annotated[str, Kind("NAME", "names", is_rest=True)]
Location = Annotated[str, Kind("MODULE|FILE:LINE", "locations")]
Condition = Annotated[str, Kind("if EXPR", "tensors", is_rest=True, keyword="if")]
Expression = Annotated[str, Kind("EXPR", "tensors", is_rest=True)]
Statement = Annotated[str, Kind("STATEMENT", "tensors", is_rest=True)]
FileName = Annotated[str, Kind("FILE", "files", is_rest=True)]
CommandName = Annotated[str, Kind("COMMAND", "commands")]
CommandLine = Annotated[str, Kind("COMMAND", "commands", is_rest=True)]
SettingName = Annotated[str, Kind("SETTING", "settings")]
RuleId = Annotated[int, Kind("ID", "rules")]
RuleIds = Annotated[tuple[int, ...], Kind("ID", "rules")]
RanksText = Annotated[str, Kind("RANKS", "ranks", is_rest=True)]
Rest = Annotated[str, Kind("TEXT", is_rest=True)]


@dataclass(frozen=True)
class Parameter:
    """One argument or flag."""

    name: str
    type: Any
    kind: Kind
    choices: tuple[str, ...] = ()
    default: Any = inspect.Parameter.empty
    is_flag: bool = False

    @property
    def is_required(self) -> bool:
        return self.default is inspect.Parameter.empty

    @property
    def metavar(self) -> str:
        if self.choices:
            return "|".join(self.choices)
        if self.type == "ranks":
            return "RANKS"
        name = self.kind.metavar or self.name.strip("_").upper()
        return name + (" ..." if self.type == "ints" else "")

    @property
    def usage(self) -> str:
        flag = f"--{self.name.replace('_', '-')}"
        word = (flag if self.type is bool else f"{flag} {self.metavar}") if self.is_flag else self.metavar
        return word if self.is_required else f"[{word}]"


@dataclass(frozen=True)
class Syntax:
    """All that a command takes after its name."""

    arguments: tuple[Parameter, ...]
    flags: tuple[Parameter, ...]

    @property
    def usage(self) -> str:
        return " ".join(parameter.usage for parameter in (*self.arguments, *self.flags))

    def parse(self, text: str, context: Callable[[], RankContext]) -> tuple[list[Any], dict[str, Any]]:
        """Read the words after the command; raises UsageError that names the bad word."""
        values: dict[str, Any] = {}
        rest = text.strip()
        waiting = list(self.arguments)
        while rest:
            flag, rest = self._take_flag(rest, values)
            if flag:
                continue
            if not waiting:
                raise UsageError(f"Unexpected {rest.split()[0]!r}.")
            parameter = waiting.pop(0)
            taken, rest = _take(parameter, rest, context, can_skip=bool(waiting))
            if taken is not None:
                values[parameter.name] = taken
        for parameter in (*self.arguments, *self.flags):
            if parameter.name not in values:
                if parameter.is_required:
                    raise UsageError(f"{parameter.metavar} is missing.")
                values[parameter.name] = parameter.default
        return [values.pop(p.name) for p in self.arguments], values

    def _take_flag(self, rest: str, values: dict[str, Any]) -> tuple[bool, str]:
        if not self.flags or not rest.startswith("--"):
            return False, rest
        word, _, rest = rest.partition(" ")
        name, is_joined, joined = word[2:].partition("=")
        for flag in self.flags:
            if flag.name.replace("_", "-") != name:
                continue
            if flag.type is bool:
                values[flag.name] = True
                return True, rest.strip()
            value, _, rest = (joined, "", rest) if is_joined else rest.strip().partition(" ")
            if not value:
                raise UsageError(f"--{name} needs a value.")
            values[flag.name] = _convert(flag, value)
            return True, rest.strip()
        there = ", ".join("--" + flag.name.replace("_", "-") for flag in self.flags)
        raise UsageError(f"No flag --{name}: there is {there}.")


def read_syntax(function: Callable[..., Any]) -> Syntax:
    """The syntax that `function` declares; its first parameter is the session or the console."""
    parameters = list(inspect.signature(function).parameters.values())[1:]
    scope = {**vars(typing), **function.__globals__}
    found = [_read_parameter(parameter, scope) for parameter in parameters]
    return Syntax(
        tuple(parameter for parameter in found if not parameter.is_flag),
        tuple(parameter for parameter in found if parameter.is_flag),
    )


def _read_parameter(parameter: inspect.Parameter, scope: dict[str, Any]) -> Parameter:
    annotation = parameter.annotation
    if isinstance(annotation, str):
        annotation = eval(annotation, scope)  # noqa: S307  (our own source)
    kind = Kind()
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        annotation = next(arm for arm in typing.get_args(annotation) if arm is not type(None))
    if typing.get_origin(annotation) is Annotated:
        annotation, kind = typing.get_args(annotation)
    choices: tuple[str, ...] = ()
    what: Any = annotation
    if typing.get_origin(annotation) is Literal:
        choices, what = typing.get_args(annotation), str
    elif typing.get_origin(annotation) is frozenset:
        what, kind = "ranks", Kind("RANKS", "ranks")
    elif typing.get_origin(annotation) is tuple:
        what = "ints"
    is_flag = parameter.kind is inspect.Parameter.KEYWORD_ONLY
    return Parameter(parameter.name, what, kind, choices, parameter.default, is_flag)


def _take(parameter: Parameter, rest: str, context: Callable[[], RankContext], *, can_skip: bool) -> tuple[Any, str]:
    """The value of `parameter` at the start of `rest`; None when an optional one is not there."""
    word, _, after = rest.partition(" ")
    kind = parameter.kind
    if kind.keyword:
        if word != kind.keyword:
            raise UsageError(f"{word!r} is not understood here. Expected {parameter.metavar}.")
        if not after.strip():
            raise UsageError(f"Nothing follows {kind.keyword!r}.")
        return after.strip(), ""
    if parameter.type == "ints":
        return tuple(_integer(each) for each in rest.replace(",", " ").split()), ""
    if kind.is_rest:
        return rest, ""
    if parameter.type == "ranks":
        return parse_ranks(rest.replace(" ", ""), context()), ""
    if parameter.choices and not parameter.is_required and can_skip and word == "if":
        return None, rest
    return _convert(parameter, word), after.strip()


def _convert(parameter: Parameter, word: str) -> Any:
    if parameter.choices:
        found = [word] if word in parameter.choices else [c for c in parameter.choices if c.startswith(word)]
        if len(found) != 1:
            raise UsageError(f"{word!r} is none of {', '.join(parameter.choices)}.")
        return found[0]
    if parameter.type is int:
        return _integer(word)
    if parameter.type is float:
        try:
            return float(word)
        except ValueError:
            raise UsageError(f"{word!r} is no number.") from None
    return word


def _integer(word: str) -> int:
    try:
        return int(word)
    except ValueError:
        raise UsageError(f"{word!r} is no whole number.") from None
