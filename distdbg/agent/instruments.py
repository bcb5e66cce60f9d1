"""Which hooks are open, and why: the hooks that the engine's rules need, no more."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from typing import Any

from torch import nn

from distdbg.hooks import backward, forward
from distdbg.hooks.scene import Emit

Key = tuple[str, str]
"""(kind, subject): `("forward-begin", "layer.0.attention")`, `("line", "/path/train.py:47")`."""

_MODULE_HOOKS = {
    "forward-begin": forward.forward_begin,
    "forward-end": forward.forward_end,
    "backward-begin": backward.backward_begin,
}


class Instruments:
    """Opens and closes hooks so that exactly the needed ones are open. Used by one thread at a time."""

    def __init__(self) -> None:
        self._open: dict[Key, tuple[Any, ExitStack]] = {}

    def __len__(self) -> int:
        return len(self._open)

    def sync_modules(self, needed: dict[Key, nn.Module], emit: Callable[[Key], Emit]) -> None:
        """Hook exactly the `needed` modules; those already hooked stay as they are and keep their place in line."""
        for key in [key for key in self._open if key[0] in _MODULE_HOOKS]:
            if key not in needed or self._open[key][0] is not needed[key]:
                self.close(key)
        for key, module in needed.items():
            if key not in self._open:
                self.open(key, module, _MODULE_HOOKS[key[0]]({key[1]: module}, emit(key)))

    def open(self, key: Key, target: Any, hook: AbstractContextManager[Any]) -> Any:
        """Open a hook under a key; what its `with` would give."""
        stack = ExitStack()
        value = stack.enter_context(hook)
        self._open[key] = (target, stack)
        return value

    def close(self, key: Key) -> None:
        """Close one hook; one that is not open is no error."""
        _, stack = self._open.pop(key, (None, ExitStack()))
        stack.close()

    def close_all(self) -> list[str]:
        """Close every hook; what could not be closed, as sentences."""
        problems: list[str] = []
        for key in list(self._open):
            try:
                self.close(key)
            except Exception as error:  # one stubborn hook must not keep the others in the job
                problems.append(f"{key[0]} {key[1]}: {error}")
        return problems
