"""Parks the main thread at its next bytecode, for a program that gives no event."""

from __future__ import annotations

import _thread
import ctypes
import sys
import time
import traceback
from collections.abc import Callable
from types import FrameType

_CALLBACK = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_void_p)
_thunks: list[tuple[object, list[bool]]] = []
"""C holds no reference to a callback, and one must not free itself while it runs: swept at the next call."""


def call_on_main_thread(function: Callable[[FrameType | None], None]) -> bool:
    """Call `function(frame)` once on the main thread, between two bytecodes of `frame`; False when the queue is full.

    It may stay there as long as it likes; what it raises is printed and goes no further, but for Ctrl-C, which is the
    program's. A thread that is blocked in C calls it when it returns.
    """
    _thunks[:] = [(thunk, is_done) for thunk, is_done in _thunks if not is_done]
    is_done: list[bool] = []

    def callback(_argument: object) -> int:
        try:
            function(sys._getframe(1))  # the interrupted frame called this one
        # An exception that left this function would make ctypes return anything, and the program raise SystemError.
        except KeyboardInterrupt:
            _thread.start_new_thread(_interrupt_soon, ())
        except BaseException:
            traceback.print_exc()
        finally:
            is_done.append(True)
        return 0

    thunk = _CALLBACK(callback)
    _thunks.append((thunk, is_done))
    return int(ctypes.pythonapi.Py_AddPendingCall(thunk, None)) == 0


def _interrupt_soon() -> None:
    time.sleep(0.01)  # at once would be inside the callback, which it must not leave
    _thread.interrupt_main()
