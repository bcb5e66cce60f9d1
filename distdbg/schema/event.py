"""Things that happen in a rank. Each is a frozen struct whose tag is its name on the wire and at the prompt.

An event keeps names, shapes and numbers, never a tensor.
"""

from __future__ import annotations

import msgspec


class Event(msgspec.Struct, frozen=True, tag_field="event", kw_only=True):
    """Something that happened in one rank."""

    @property
    def name(self) -> str:
        """The event's name at the prompt and on the wire: `forward-begin`."""
        return str(self.__struct_config__.tag)

    @property
    def subject(self) -> str:
        """What it happened to, as the user writes it."""
        return ""

    @property
    def title(self) -> str:
        """`forward layer.0.attention`: the event as one phrase."""
        return f"{self.name} {self.subject}".strip()


class ModuleEvent(Event, frozen=True, kw_only=True):
    """Something that happened to the module `fqn`. `call` counts its calls in this iteration from 1.

    `is_recompute` is True where activation checkpointing runs the forward a second time, inside the backward.
    """

    fqn: str
    class_name: str = ""
    call: int = 1
    is_recompute: bool = False

    @property
    def subject(self) -> str:
        return self.fqn

    @property
    def title(self) -> str:
        phrase = {"forward-begin": "forward", "forward-end": "end of", "backward-begin": "backward"}[self.name]
        call = f" (call {self.call})" if self.call > 1 else ""
        return f"{phrase} {self.fqn}{call}" + (" recomputed in backward" if self.is_recompute else "")


class ForwardBegin(ModuleEvent, frozen=True, tag="forward-begin", kw_only=True):
    """The module is about to run its forward; `input` is there."""


class ForwardEnd(ModuleEvent, frozen=True, tag="forward-end", kw_only=True):
    """The module's forward has returned; `input` and `output` are there."""


class BackwardBegin(ModuleEvent, frozen=True, tag="backward-begin", kw_only=True):
    """The gradient of the module's output has arrived; it is `grad_output`."""


class LineReached(Event, frozen=True, tag="line", kw_only=True):
    """The line is about to run in some thread of the rank."""

    file: str
    line: int
    function: str = ""

    @property
    def subject(self) -> str:
        return f"{self.file.rsplit('/', 1)[-1]}:{self.line}"


class Iteration(Event, frozen=True, tag="iteration", kw_only=True):
    """An iteration ended: an optimizer has stepped, or the root module is called where there is no optimizer."""

    number: int


class Watched(Event, frozen=True, tag="watch", kw_only=True):
    """The watched tensor or value differs from what it was at the last event, of which this rank saw `at_event` of
    `at_subject`."""

    expression: str
    old: str
    new: str
    at_event: str = ""
    at_subject: str = ""

    @property
    def subject(self) -> str:
        return self.expression


class Paused(Event, frozen=True, tag="pause", kw_only=True):
    """`pause` parked the thread where it was."""


class Called(Event, frozen=True, tag="breakpoint-call", kw_only=True):
    """The program itself called `distdbg.breakpoint()`."""


AnyEvent = ForwardBegin | ForwardEnd | BackwardBegin | LineReached | Iteration | Watched | Paused | Called
