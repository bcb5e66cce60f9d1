"""Line breakpoints through `sys.monitoring` (Python 3.12+): local to one code object, at once in every thread."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from types import CodeType, FrameType
from typing import Any

from distdbg.errors import RefusedError
from distdbg.hooks.line_target import is_function

Reach = Callable[[FrameType], None]

_monitoring: Any = getattr(sys, "monitoring", None)
_PREFERRED_IDS = (3, 4, 0, 2, 1)
"""3 and 4 are nobody's; 0 is meant for debuggers, 1 for coverage, 2 for profilers."""

_lock = threading.Lock()
_reaches: dict[tuple[int, int], list[Reach]] = {}
_codes: dict[int, CodeType] = {}
_tool: int | None = None


def is_available() -> bool:
    """Whether this Python has `sys.monitoring`."""
    return _monitoring is not None


def lines_of(code: CodeType) -> list[int]:
    """The lines of the code object that raise a line event, sorted."""
    lines = {line for _, _, line in code.co_lines() if line}
    if is_function(code) and len(lines) > 1:
        lines.discard(code.co_firstlineno)  # the entry of the function, which is no line event
    return sorted(lines)


def watch(code: CodeType, line: int, reach: Reach) -> Callable[[], None]:
    """Call `reach(frame)` right before `line` of `code` runs, until what is returned is called."""
    with _lock:
        tool = _claim_tool()
        _reaches.setdefault((id(code), line), []).append(reach)
        _codes[id(code)] = code
        # Lines that were switched off by _on_line come back only when the events are set anew.
        _monitoring.set_local_events(tool, code, 0)
        _monitoring.set_local_events(tool, code, _monitoring.events.LINE)

    def close() -> None:
        with _lock:
            reaches = _reaches.get((id(code), line), [])
            if reach in reaches:
                reaches.remove(reach)
            if not reaches:
                _reaches.pop((id(code), line), None)
            if id(code) in _codes and not any(key[0] == id(code) for key in _reaches):
                _monitoring.set_local_events(_tool, code, 0)
                del _codes[id(code)]
            _release_tool()

    return close


def _on_line(code: CodeType, line: int) -> Any:
    reaches = _reaches.get((id(code), line))
    if not reaches:
        return _monitoring.DISABLE
    frame = sys._getframe(1)
    for reach in tuple(reaches):
        reach(frame)
    return None


def _claim_tool() -> int:
    global _tool
    if _tool is None:
        free = [number for number in _PREFERRED_IDS if _monitoring.get_tool(number) is None]
        if not free:
            raise RefusedError("No line breakpoint: all tools of sys.monitoring are taken in this process.")
        _monitoring.use_tool_id(free[0], "distdbg")
        _monitoring.register_callback(free[0], _monitoring.events.LINE, _on_line)
        _tool = free[0]
    return _tool


def _release_tool() -> None:
    global _tool
    if _tool is not None and not _codes:
        _monitoring.register_callback(_tool, _monitoring.events.LINE, None)
        _monitoring.free_tool_id(_tool)
        _tool = None
