"""An event before a chosen source line runs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from types import CodeType, FrameType

from distdbg.errors import UsageError
from distdbg.hooks import line_monitor, line_swap, line_trace
from distdbg.hooks.line_source import Statement, is_past, locate, read_tree, statement_at
from distdbg.hooks.line_target import (
    Place,
    Target,
    find_codes,
    find_file,
    is_function,
    nested_codes,
    qualified_name,
    running_frames,
)
from distdbg.hooks.scene import Emit, Scene
from distdbg.schema.event import LineReached

__all__ = ["Place", "Target", "line"]

Reach = Callable[[FrameType], None]


@contextmanager
def line(targets: Sequence[Target], emit: Emit) -> Iterator[list[Place]]:
    """Emit LineReached right before each target's line runs, in whatever thread that is; gives where they landed.

    Raises UnknownName for a file that is not loaded, UsageError for a line that will not run again. Costs nothing
    elsewhere, except where a call that is already running has to be traced; its Place says so.
    """
    with ExitStack() as installed:
        yield [place for target in targets for place in _install(target, emit, installed)]


def _install(target: Target, emit: Emit, installed: ExitStack) -> list[Place]:
    file = find_file(target.file)
    codes = find_codes(file, line_swap.original)
    if line_monitor.is_available():
        return _install_monitor(file, target.line, codes, emit, installed)
    return _install_swap(file, target.line, codes, emit, installed)


def _reach(place: Place, emit: Emit) -> Reach:
    event = LineReached(file=place.file, line=place.line, function=place.function)
    return lambda frame: emit(event, Scene(frame=frame))


# ---- Python 3.12 and newer -------------------------------------------------------------------------------------------


def _install_monitor(file: str, number: int, codes: list[CodeType], emit: Emit, installed: ExitStack) -> list[Place]:
    chosen, here = choose_line(file, number, codes)
    note = "" if here == number else f"line {number} has no code of its own, line {here} is the nearest that has"
    place = Place(file, here, qualified_name(chosen[0]), note)
    reach = _reach(place, emit)
    for code in chosen:
        installed.callback(line_monitor.watch(code, here, reach))
    return [place]


def choose_line(file: str, number: int, codes: list[CodeType]) -> tuple[list[CodeType], int]:
    """The code objects to watch and the line in them: as typed, or the nearest that has code. Raises UsageError."""
    lines = {id(code): line_monitor.lines_of(code) for code in codes}
    found = [code for code in codes if number in lines[id(code)]]
    if not any(is_function(code) for code in found):
        _refuse_finished(file, number)
    if not found:
        functions = [code for code in codes if lines[id(code)] and is_function(code)]
        if not functions:
            raise UsageError(f"{file} has no function: nothing in it runs again.")
        around = [code for code in functions if code.co_firstlineno <= number <= lines[id(code)][-1]]
        if around:
            functions = [max(around, key=lambda code: code.co_firstlineno)]
        every = sorted({each for code in functions for each in lines[id(code)]})
        number = next((each for each in every if each >= number), every[-1])
        found = [code for code in functions if number in lines[id(code)]]
    inner = {id(code) for outer in found for code in nested_codes(outer) if code is not outer}
    # A comprehension or lambda shares its line with the statement that it is in: that is where to stop.
    return [code for code in found if id(code) not in inner], number


def _refuse_finished(file: str, number: int) -> None:
    try:
        tree = read_tree(file)
    except UsageError:
        return  # no source: the lines of the code objects are all there is to go by
    statement = statement_at(tree, number)
    if statement is None or statement.function is not None:
        return
    bodies = [frame for frame in running_frames() if frame.f_code.co_filename == file and not is_function(frame.f_code)]
    if statement.scopes or all(is_past(tree, statement, frame.f_lineno or 0) for frame in bodies):
        _refuse_body(file, number, statement)


def _refuse_body(file: str, number: int, statement: Statement) -> None:
    where = f"the body of class {statement.scopes[-1].name}" if statement.scopes else "the body of the module"
    raise UsageError(f"{file}:{number} is in {where}, which has run and does not run again.")


# ---- before that -----------------------------------------------------------------------------------------------------


def _install_swap(file: str, number: int, codes: list[CodeType], emit: Emit, installed: ExitStack) -> list[Place]:
    tree = read_tree(file)
    statement, note = locate(tree, file, number)
    here = statement.node.lineno
    notes = [note] if note else []
    frames = [
        frame
        for frame in running_frames()
        if frame.f_code.co_filename == file and _is_in(line_swap.original(frame.f_code), statement)
    ]
    coming = [frame for frame in frames if not is_past(tree, statement, frame.f_lineno or 0)]
    if statement.function is None and (statement.scopes or not coming):
        _refuse_body(file, here, statement)
    found = line_swap.find_code(tree, file, statement, codes)
    name = _name(statement)
    frames = [frame for frame in frames if any(line_swap.original(frame.f_code) is code for code in found)]
    if frames:
        notes.append(_note_running(frames, name) if coming else f"{name} is running, and past this line")
    place = Place(file, here, name, "; ".join(notes))
    reach = _reach(place, emit)
    if statement.function is not None:
        for code in found:
            installed.callback(line_swap.watch(code, statement, reach))
    traced = {id(frame) for frame in running_frames(threading.main_thread().ident)}
    for frame in frames:
        if id(frame) in traced and any(frame is one for one in coming):
            installed.callback(line_trace.watch(frame, here, reach))
    return [place]


def _is_in(code: CodeType, statement: Statement) -> bool:
    function = statement.function
    return code.co_name == (function.name if function is not None else "<module>")


def _name(statement: Statement) -> str:
    return ".".join(scope.name for scope in statement.scopes) or "<module>"


def _note_running(frames: list[FrameType], name: str) -> str:
    on_main = {id(frame) for frame in running_frames(threading.main_thread().ident)}
    if not all(id(frame) in on_main for frame in frames):
        return f"{name} is running in another thread, there it stops from its next call on"
    if line_trace.is_blocked(next(running_frames(threading.main_thread().ident), None)):
        return f"{name} is running, and a tracer (coverage, a debugger) is on: it stops from its next call on"
    return f"{name} is running: this call is traced, which makes every Python call a little slower"
