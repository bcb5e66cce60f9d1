"""The line below the prompt: job, ranks, iteration and its rate, focus."""

from __future__ import annotations

import sys
import time
from collections import deque
from typing import TYPE_CHECKING

from distdbg.reporters.terminal import detect
from distdbg.schema.ranks import format_ranks

if TYPE_CHECKING:
    from distdbg.console.console import Console

_WINDOW_S = 5.0


class Toolbar:
    """Draws the line anew at each refresh; remembers the iterations of the last seconds for the rate."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._joint = " │ " if detect(sys.stdout).has_unicode else " | "
        self._seen: deque[tuple[float, int]] = deque()

    def draw(self, now: float | None = None) -> str:
        """` 8f3a train.py │ 4 running │ iteration 41, 3.1/s │ focus all`."""
        session = self._console.session
        states = list(session.states.values())
        counts = [
            f"{number} {word}"
            for word in ("stopped", "running", "lost")
            if (number := sum(state.status == word for state in states))
        ]
        alive = [state for state in states if state.status != "lost"] or states
        iteration = max((state.iteration for state in alive), default=0)
        is_running = any(state.status == "running" for state in states)
        rate = self._rate(time.monotonic() if now is None else now, iteration, is_running)
        parts = [
            f"{session.job.id} {session.job.script}",
            ", ".join(counts),
            f"iteration {iteration}" + (f", {rate:.1f}/s" if rate else ""),
            f"focus {session.focus_text or format_ranks(session.focus)}",
        ]
        return " " + self._joint.join(parts)

    def _rate(self, now: float, iteration: int, is_running: bool) -> float:
        # An iteration of 0 may only mean that no rank has told its own yet.
        if not is_running or (self._seen and (iteration < self._seen[-1][1] or not self._seen[-1][1])):
            self._seen.clear()
        if not self._seen or iteration != self._seen[-1][1]:
            self._seen.append((now, iteration))
        while len(self._seen) > 2 and now - self._seen[0][0] > _WINDOW_S:
            self._seen.popleft()
        (first, start), (last, end) = self._seen[0], self._seen[-1]
        return (end - start) / (last - first) if last > first and now - last < _WINDOW_S else 0.0
