"""Runs what the user typed on the parked training thread, in the frame he looks at."""

from __future__ import annotations

import ast
import ctypes
import linecache
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import CodeType, FrameType
from typing import Any

import torch

from distdbg.agent.interrupt import EvaluationInterrupted
from distdbg.errors import EvaluationError, UsageError, WouldDeadlock

_FILENAME = "<distdbg>"


def compile_text(text: str, mode: str) -> CodeType:
    """Compile for `eval` or `exec`; a syntax error is the user's, and points at the place."""
    try:
        return compile(text, _FILENAME, mode)
    except (SyntaxError, ValueError) as error:
        linecache.cache.pop(_FILENAME, None)
        raise UsageError("".join(traceback.format_exception_only(type(error), error)).strip()) from error


def evaluate(text: str, frame: FrameType, extras: dict[str, Any]) -> Any:
    """The value of an expression in a frame; `extras` (input, output, module) are there unless the frame has its own.

    Locals are laid over the globals, so that a comprehension sees them too. The random state is put back: looking
    must not change what the job draws next.
    """
    code = compile_text(text, "eval")
    namespace = {**frame.f_globals, **extras, **frame.f_locals}
    with _kept_random_state():
        return _run(lambda: eval(code, namespace))  # noqa: S307  (it is what the user asked for)


def execute(text: str, frame: FrameType, extras: dict[str, Any]) -> None:
    """Run statements in a frame; assignments to its locals last, as they do in pdb."""
    code = compile_text(text, "exec")
    local = frame.f_locals
    if local is frame.f_globals:
        _run(lambda: exec(code, frame.f_globals))  # noqa: S102
        return
    before = dict(local)
    namespace = {**extras, **before}
    _run(lambda: exec(code, frame.f_globals, namespace))  # noqa: S102
    changed = {k: v for k, v in namespace.items() if k not in extras and (k not in before or before[k] is not v)}
    if changed:
        local.update(changed)
        if sys.version_info < (3, 13):  # from there on f_locals writes through (PEP 667)
            ctypes.pythonapi.PyFrame_LocalsToFast(ctypes.py_object(frame), ctypes.c_int(0))


def names_in(text: str) -> set[str]:
    """Every plain name in an expression."""
    return {node.id for node in ast.walk(ast.parse(text, mode="eval")) if isinstance(node, ast.Name)}


def _run(function: Callable[[], Any]) -> Any:
    try:
        return function()
    except (WouldDeadlock, EvaluationInterrupted, KeyboardInterrupt):
        raise
    except BaseException as error:  # SystemExit too: `print exit()` must not end the job
        refused = _find_refusal(error)
        if refused is not None:
            raise refused from error
        raise EvaluationError(_last_lines(error)) from error


def _find_refusal(error: BaseException | None) -> WouldDeadlock | None:
    """A library on the way may have wrapped our refusal in an error of its own."""
    while error is not None:
        if isinstance(error, WouldDeadlock):
            return error
        error = error.__cause__ or error.__context__
    return None


def _last_lines(error: BaseException) -> str:
    return "".join(traceback.format_exception_only(type(error), error)).strip()


@contextmanager
def _kept_random_state() -> Iterator[None]:
    cpu = torch.get_rng_state()
    gpu = torch.cuda.get_rng_state() if torch.cuda.is_initialized() else None
    try:
        yield
    finally:
        torch.set_rng_state(cpu)
        if gpu is not None:
            torch.cuda.set_rng_state(gpu)
