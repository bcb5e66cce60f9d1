"""What a watched tensor or expression looked like last, as a short text that differs when it changed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from distdbg.errors import DistdbgError

Read = Callable[[str], Any]
"""Resolve a watched name or expression to a value; raises a DistdbgError where it is not known here."""
Fingerprint = Callable[[torch.Tensor], str]


class Watches:
    """The last seen state of each watchpoint, by its id."""

    def __init__(self, fingerprint: Fingerprint) -> None:
        self._fingerprint = fingerprint
        self._seen: dict[int, str] = {}

    def has_changed(self, rule_id: int, expression: str, read: Read) -> tuple[str, str] | None:
        """(old, new) when the value differs from the last look; None when it does not, or is not known at this event.

        The first look only remembers. A name that comes into being later (a gradient) changes from `(not there)`.
        """
        try:
            new = self._describe(read(expression))
        except DistdbgError:
            return None
        old = self._seen.get(rule_id)
        self._seen[rule_id] = new
        return None if old is None or old == new else (old, new)

    def forget(self, rule_id: int) -> None:
        """Drop the state of a deleted watchpoint."""
        self._seen.pop(rule_id, None)

    def _describe(self, value: Any) -> str:
        if isinstance(value, torch.Tensor):
            local = getattr(value, "_local_tensor", value)
            return f"{tuple(local.shape)} {self._fingerprint(local)}"
        return repr(value)[:200]
