"""The moment at which a process gets its process group."""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType, ModuleType
from typing import Any

_GLOBAL = "__distdbg_init_process_group"


def on_group_ready(distributed_c10d: ModuleType, callback: Callable[[], None]) -> None:
    """Call `callback` once, on the thread that called it, when `init_process_group` has returned.

    The function object stays what it is, for those who imported it by name: only its code is exchanged, and put back
    before the callback runs. `callback` must not raise.
    """
    function: Any = distributed_c10d.init_process_group
    if _GLOBAL in function.__globals__:
        callbacks = function.__globals__[_GLOBAL].callbacks
        if callback not in callbacks:
            callbacks.append(callback)
        return
    function.__globals__[_GLOBAL] = hook = _Hook(function)
    hook.callbacks.append(callback)
    # Unused here, but a function's code must name as many free variables as the function has cells.
    function.__code__ = _forward.__code__.replace(co_freevars=function.__code__.co_freevars)


def _forward(*args: Any, **kwargs: Any) -> Any:
    return __distdbg_init_process_group(*args, **kwargs)  # type: ignore[name-defined]  # noqa: F821


class _Hook:
    """Stands in for the function's body until it has once succeeded."""

    def __init__(self, function: Any) -> None:
        self.callbacks: list[Callable[[], None]] = []
        self._function = function
        self._code = function.__code__
        self._original: Any = FunctionType(
            function.__code__, function.__globals__, function.__name__, function.__defaults__, function.__closure__
        )
        self._original.__kwdefaults__ = function.__kwdefaults__

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        result = self._original(*args, **kwargs)  # raises: the next call may succeed
        self._function.__code__ = self._code
        self._function.__globals__.pop(_GLOBAL, None)
        for callback in self.callbacks:
            callback()
        return result
