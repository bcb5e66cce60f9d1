"""Breaks off what the user evaluates on a parked thread, and never anything of the job's own."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from typing import TypeVar

from distdbg.errors import EvaluationError

T = TypeVar("T")

_set_async_exception = ctypes.pythonapi.PyThreadState_SetAsyncExc
_set_async_exception.argtypes = (ctypes.c_ulong, ctypes.py_object)
_clear_async_exception = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_ulong, ctypes.c_void_p)(
    ("PyThreadState_SetAsyncExc", ctypes.pythonapi)
)


class EvaluationInterrupted(BaseException):
    """Raised inside an evaluation by `Interruptible.interrupt`; nothing of the job ever sees it."""


class Interruptible:
    """Runs one evaluation at a time so that another thread can break it off.

    An exception set for a thread goes off at its next bytecode. One that was set just as the evaluation ended is
    taken back under the same lock under which it was set, so it cannot go off in the training that follows.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ident: int | None = None

    def run(self, work: Callable[[], T]) -> T:
        """`work()`; raises EvaluationError when it was interrupted."""
        with self._lock:
            self._ident = threading.get_ident()
        try:
            try:
                return work()
            finally:
                self._end()
        except EvaluationInterrupted as error:
            self._end()  # it may have gone off in the first one; a second is never sent
            raise EvaluationError("interrupted") from error

    def interrupt(self) -> bool:
        """Break off what is being evaluated; False when nothing is, or it was told before."""
        with self._lock:
            if self._ident is None:
                return False
            _set_async_exception(self._ident, EvaluationInterrupted)
            self._ident = None
            return True

    def _end(self) -> None:
        with self._lock:
            self._ident = None
            _clear_async_exception(threading.get_ident(), None)
