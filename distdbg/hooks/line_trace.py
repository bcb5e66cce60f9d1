"""Lines of a call that is already running, on Python 3.10 and 3.11: exchanged code would wait for its next call.

A training loop is called once. Its own frame gets a trace function; new calls get none, so they only pay for asking.
The trace ends with that call, or with the breakpoint. Standard library only.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

from distdbg.hooks.pending import call_on_main_thread

Reach = Callable[[FrameType], None]

_lock = threading.Lock()
_lines: dict[FrameType, list[tuple[int, Reach]]] = {}


def watch(frame: FrameType, line: int, reach: Reach) -> Callable[[], None]:
    """Call `reach(frame)` right before `line` of this call runs, until what is returned is called.

    `frame` is on the main thread's stack. Begins at the main thread's next bytecode.
    """
    entry = (line, reach)
    with _lock:
        _lines.setdefault(frame, []).append(entry)
    frame.f_trace = _trace_frame
    call_on_main_thread(_start)

    def close() -> None:
        with _lock:
            entries = _lines.get(frame, [])
            if entry in entries:
                entries.remove(entry)
            if frame in _lines and not entries:
                _forget(frame)
        if not _lines:
            call_on_main_thread(_end)

    return close


def _start(_frame: FrameType | None) -> None:
    if _lines and sys.gettrace() is None:  # somebody else's (coverage, pdb) stays
        sys.settrace(_trace_call)


def _end(_frame: FrameType | None = None) -> None:
    if not _lines and sys.gettrace() is _trace_call:
        sys.settrace(None)


def _forget(frame: FrameType) -> None:
    _lines.pop(frame, None)
    if frame.f_trace is _trace_frame:
        frame.f_trace = None


def _trace_call(_frame: FrameType, _event: str, _argument: Any) -> None:
    _end()


def _trace_frame(frame: FrameType, event: str, _argument: Any) -> Any:
    if event == "line":
        for line, reach in tuple(_lines.get(frame, ())):
            if line == frame.f_lineno:
                reach(frame)
    elif event == "return":
        with _lock:
            _forget(frame)
    _end()
    return _trace_frame if frame in _lines else None


def is_blocked(frame: FrameType | None) -> bool:
    """Whether somebody else (pdb, coverage) traces the thread whose innermost frame this is."""
    while frame is not None:
        if frame.f_trace is not None and frame.f_trace is not _trace_frame:
            return True
        frame = frame.f_back
    return False
