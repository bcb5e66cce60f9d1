"""What an injection says about itself."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Injection:
    """Code is on its way into a process: its thread exists, or the interpreter has been asked to run it."""

    method: str
    """'ptrace', 'gdb' or 'remote_exec'."""
    tid: int
    """The thread that was stopped (remote_exec: the main thread, which stops by itself)."""
    paused_s: float
    """Longest time for which a thread of the process stood still."""
    total_s: float
    tries: int
