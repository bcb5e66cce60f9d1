"""A task that one of several processes of this user does, whichever comes first: the others see it taken."""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterator

from distdbg.wire.runtime import runtime_dir


@contextlib.contextmanager
def claim(name: str) -> Iterator[bool]:
    """Whether `name` is ours while open. The kernel gives it up when the process ends."""
    path = runtime_dir() / f"{''.join(letter if letter.isalnum() else '_' for letter in name)}.claim"
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
            return
        try:
            yield True
        finally:
            path.unlink(missing_ok=True)
