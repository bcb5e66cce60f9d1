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
# It is never taken back with NULL: on 3.11 that leaves the eval breaker set for good, which slows the training down and
# makes every call of a Python function under sys.settrace spin for ever.


class EvaluationInterrupted(BaseException):
    """Raised inside an evaluation by `Interruptible.interrupt`; nothing of the job ever sees it."""


class Interruptible:
    """Runs one evaluation at a time so that another thread can break it off.

    An exception set for a thread goes off at its next bytecode. One that was set just as the evaluation ended goes off
    in `_end`: after it none is set any more, so none can go off in the training that follows.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ident: int | None = None
        self._is_sent = False

    def run(self, work: Callable[[], T]) -> T:
        """`work()`; raises EvaluationError when it was interrupted."""
        try:
            try:
                with self._lock:
                    self._ident, self._is_sent = threading.get_ident(), False
                return work()
            finally:
                self._end()
        except EvaluationInterrupted as error:
            raise EvaluationError("interrupted") from error

    def interrupt(self) -> bool:
        """Break off what is being evaluated; False when nothing is, or it was told before."""
        with self._lock:
            if self._ident is None:
                return False
            _set_async_exception(self._ident, EvaluationInterrupted)
            self._ident, self._is_sent = None, True
            return True

    def _end(self) -> None:
        with self._lock:
            self._ident = None
        if self._is_sent:
            for _ in range(100):  # it goes off here, if it has not yet
                pass
