"""Finds the code that a typed `FILE:LINE` means, among what this process has loaded. Standard library only."""

from __future__ import annotations

import difflib
import gc
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from types import CodeType, FrameType, FunctionType

from distdbg.errors import AmbiguousName, UnknownName

_OPTIMIZED = 0x1
"""CO_OPTIMIZED: set for functions, clear for the bodies of modules and classes."""


@dataclass(frozen=True)
class Target:
    """What the user typed: a path or its tail, and a line counted from 1."""

    file: str
    line: int


@dataclass(frozen=True)
class Place:
    """Where it landed. `note` says what the user must know: another line, not before the next call."""

    file: str
    line: int
    function: str
    note: str = ""


def loaded_functions() -> list[FunctionType]:
    """Every function object; those that `gc.freeze` hides only as far as modules and classes name them."""
    functions = [found for found in gc.get_objects() if type(found) is FunctionType]
    if gc.get_freeze_count():
        by_id = {id(function): function for function in functions}
        for module in list(sys.modules.values()):
            by_id |= {id(found): found for found in _named_functions(getattr(module, "__dict__", {}).values())}
        functions = list(by_id.values())
    return functions


def _named_functions(values: Iterable[object]) -> Iterator[FunctionType]:
    for value in list(values):
        if isinstance(value, type):
            for member in list(vars(value).values()):
                inner = getattr(member, "__func__", None) or getattr(member, "fget", None) or member
                if type(inner) is FunctionType:
                    yield inner
        elif type(value) is FunctionType:
            yield value
            wrapped = getattr(value, "__wrapped__", None)
            if type(wrapped) is FunctionType:
                yield wrapped


def running_frames(ident: int | None = None) -> Iterator[FrameType]:
    """Every frame on a stack: of one thread, or of all."""
    stacks = sys._current_frames()
    for frame in [stacks.get(ident)] if ident is not None else list(stacks.values()):
        while frame is not None:
            yield frame
            frame = frame.f_back


def nested_codes(code: CodeType) -> Iterator[CodeType]:
    """The code and all code inside it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from nested_codes(constant)


def is_function(code: CodeType) -> bool:
    """Whether the code is that of a function rather than the body of a module or class."""
    return bool(code.co_flags & _OPTIMIZED)


def qualified_name(code: CodeType) -> str:
    """`Block.forward` where Python keeps it (3.11+), else `forward`."""
    name: str = getattr(code, "co_qualname", code.co_name)
    return name.replace("<locals>.", "")


def find_file(typed: str) -> str:
    """The one loaded file that `typed` means, as code objects name it. Raises UnknownName, AmbiguousName."""
    wanted = os.path.normpath(typed)
    named = (getattr(module, "__dict__", {}).get("__file__") for module in list(sys.modules.values()))
    files = {frame.f_code.co_filename for frame in running_frames()} | {str(file) for file in named if file}
    found = _matches(wanted, files)
    if not found:  # code whose module is gone, or that never had one
        files |= {function.__code__.co_filename for function in loaded_functions()}
        found = _matches(wanted, files)
    if len(found) == 1:
        return found[0]
    if found:
        raise AmbiguousName(f"Several loaded files are called {typed}: {', '.join(found)}. Type more of the path.")
    names = {os.path.basename(file) for file in files if not file.startswith("<")}
    near = difflib.get_close_matches(os.path.basename(wanted), sorted(names), 3, 0.6)
    raise UnknownName(
        f"No code is loaded from {typed}." + (f" Nearest: {', '.join(near)}." if near else " Is it imported yet?")
    )


def _matches(wanted: str, files: set[str]) -> list[str]:
    if wanted in files:
        return [wanted]
    found = sorted(file for file in files if file.endswith(os.sep + wanted.lstrip(os.sep)))
    if not found and os.path.isabs(wanted):
        found = sorted(file for file in files if os.path.realpath(file) == os.path.realpath(wanted))
    return found


def find_codes(file: str, original: Callable[[CodeType], CodeType]) -> list[CodeType]:
    """All live code of the file: functions, what is inside them, and module or class bodies that run right now.

    `original` maps code that we have put in place to the program's own.
    """
    roots = [function.__code__ for function in loaded_functions() if function.__code__.co_filename == file]
    roots += [frame.f_code for frame in running_frames() if frame.f_code.co_filename == file]
    # Code objects are equal when they only look alike, so they are told apart by identity.
    found = {id(code): code for root in map(original, roots) for code in nested_codes(root)}
    running = {id(original(frame.f_code)) for frame in running_frames()}
    return [code for code in found.values() if is_function(code) or id(code) in running]
