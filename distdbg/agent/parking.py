"""Holds a training thread at an event, and lets it work for the user meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from types import FrameType

from distdbg.hooks.scene import Scene
from distdbg.schema.stop import Stop


@dataclass(frozen=True)
class Job:
    """Work for a parked thread; exactly one of the two is called, on that thread."""

    run: Callable[[], None]
    cancel: Callable[[], None]


@dataclass
class Parked:
    """One parked thread: the stop it waits in, its live scene and frames (innermost first)."""

    stop: Stop
    scene: Scene
    frames: list[FrameType]
    ident: int = field(default_factory=threading.get_ident)
    jobs: SimpleQueue[Job | None] = field(default_factory=SimpleQueue)


class Parking:
    """At most one thread is parked and shown at a time; another that comes along waits for its turn.

    Nothing here holds the GIL or a lock that others need: a waiting thread sits in a queue's `get`.
    """

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self.current: Parked | None = None
        self.is_open = True

    def park(self, parked: Parked, announce: Callable[[], None]) -> None:
        """Hold the calling thread until `resume`; jobs given meanwhile run on it. Returns at once when closed.

        A KeyboardInterrupt is the job's own business: the thread leaves the parking with it.
        """
        with self._turn:
            if not self.is_open:
                return
            self.current = parked
            try:
                announce()
                while (job := parked.jobs.get()) is not None:
                    job.run()
            finally:
                self.current = None
                parked.frames.clear()
                _cancel_all(parked.jobs)

    def resume(self, hit: int | None = None) -> bool:
        """Let the parked thread go on; False when none is parked, or another than `hit`."""
        parked = self.current
        if parked is None or (hit is not None and parked.stop.hit != hit):
            return False
        parked.jobs.put(None)
        return True

    def close(self) -> None:
        """Let every thread go on, now and from now on."""
        self.is_open = False
        self.resume()

    def open(self) -> None:
        """Hold threads again."""
        self.is_open = True


def _cancel_all(jobs: SimpleQueue[Job | None]) -> None:
    while True:
        try:
            job = jobs.get_nowait()
        except Empty:
            return
        if job is not None:
            job.cancel()
