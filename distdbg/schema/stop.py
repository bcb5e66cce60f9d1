"""Where a rank is: frames of its stack, the logical clock, and the stop that holds it."""

from __future__ import annotations

import msgspec

from distdbg.schema.event import AnyEvent

Clock = dict[str, int]
"""Group -> number of collectives that this rank has issued on it: equal on all members at the same logical point."""


class Frame(msgspec.Struct, frozen=True, kw_only=True):
    """One frame of a Python stack, outermost call last. `source` holds (line number, text) around `line`."""

    file: str
    line: int
    function: str
    source: tuple[tuple[int, str], ...] = ()


class Stop(msgspec.Struct, frozen=True, kw_only=True):
    """One rank parked by one event.

    `breakpoint` is the user's number of it (None for pause and step), `rule` the id of whatever rule it was (0: none),
    `thread` the name of the parked thread,
    `hit` the ordinal of this hit of that breakpoint on this rank, `wanted` False where the condition was false here or
    the rank is out of focus: it then waits for what the others say. `error` is set when the condition raised.
    """

    event: AnyEvent
    breakpoint: int | None = None
    iteration: int = 0
    clock: Clock = {}
    rule: int = 0
    hit: int = 0
    wanted: bool = True
    error: str = ""
    thread: str = ""
    frames: tuple[Frame, ...] = ()
    inputs: tuple[str, ...] = ()
