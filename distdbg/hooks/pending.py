"""Parks the main thread at its next bytecode, for a program that gives no event."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from types import FrameType

_CALLBACK = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_void_p)
_thunks: list[tuple[object, list[bool]]] = []
"""C holds no reference to a callback, and one must not free itself while it runs: swept at the next call."""


def call_on_main_thread(function: Callable[[FrameType | None], None]) -> bool:
    """Call `function(frame)` once on the main thread, between two bytecodes of `frame`; False when the queue is full.

    It may stay there as long as it likes; what it raises is swallowed. A thread that is blocked in C calls it when it
    returns.
    """
    _thunks[:] = [(thunk, is_done) for thunk, is_done in _thunks if not is_done]
    is_done: list[bool] = []

    def callback(_argument: object) -> int:
        try:
            function(sys._getframe(1))  # the interrupted frame called this one
        finally:
            is_done.append(True)
        return 0

    thunk = _CALLBACK(callback)
    _thunks.append((thunk, is_done))
    return int(ctypes.pythonapi.Py_AddPendingCall(thunk, None)) == 0
