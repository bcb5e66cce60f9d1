"""Which rules an event meets. Pure: no torch, no lock, no thread, no wire."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec

from distdbg.schema.breakpoint import (
    AnyBreakpoint,
    BoundaryRule,
    LineBreakpoint,
    ModuleBreakpoint,
    PointRule,
    StepRule,
    Watchpoint,
)
from distdbg.schema.event import AnyEvent, Iteration, LineReached, ModuleEvent
from distdbg.schema.stop import Clock

_WHEN = {"forward": "forward-begin", "end": "forward-end", "backward": "backward-begin"}


@dataclass(frozen=True)
class Copy:
    """A breakpoint as installed in this rank: the rule and the names it landed on (fqns, or FILE:LINE)."""

    rule: AnyBreakpoint
    subjects: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Surroundings:
    """What a rule may ask about an event beyond itself; each costs something, so each is a function."""

    depth: Callable[[], int]
    clock: Callable[[], Clock]


@dataclass
class Engine:
    """`handle(event) -> rules met`. Rules are replaced as a whole, so the training thread never sees half a change."""

    copies: dict[int, Copy] = field(default_factory=dict)
    iteration: int = 0
    _calls: dict[str, int] = field(default_factory=dict)

    def add(self, copy: Copy) -> None:
        """Install a copy, or replace the one of the same id."""
        self.copies = {**self.copies, copy.rule.id: copy}

    def remove(self, rule_id: int) -> None:
        """Take a copy away; one that is not there is no error."""
        self.copies = {key: copy for key, copy in self.copies.items() if key != rule_id}

    def handle(self, event: AnyEvent, around: Surroundings) -> tuple[AnyEvent, list[AnyBreakpoint]]:
        """Number the event and say which enabled rules it meets, the user's own (ids from 1) first."""
        if isinstance(event, Iteration):
            self.iteration = event.number
            self._calls.clear()
        elif isinstance(event, ModuleEvent):
            event = self._number(event)
        met = [copy.rule for copy in self.copies.values() if copy.rule.is_enabled and _meets(event, copy, around)]
        return event, sorted(met, key=lambda rule: (rule.id < 0, abs(rule.id)))

    def _number(self, event: ModuleEvent) -> AnyEvent:
        key = f"{event.name} {event.fqn} {event.is_recompute}"
        self._calls[key] = self._calls.get(key, 0) + 1
        return msgspec.structs.replace(event, call=self._calls[key])  # type: ignore[return-value]


def _meets(event: AnyEvent, copy: Copy, around: Surroundings) -> bool:
    match copy.rule:
        case ModuleBreakpoint(when=when):
            return isinstance(event, ModuleEvent) and event.name == _WHEN[when] and event.fqn in copy.subjects
        case LineBreakpoint():
            return isinstance(event, LineReached) and f"{event.file}:{event.line}" in copy.subjects
        case Watchpoint():
            return isinstance(event, ModuleEvent | Iteration)
        case BoundaryRule():
            return isinstance(event, Iteration)
        case PointRule(event=name, subject=subject, clock=clock):
            return event.name == name and event.subject == subject and _is_same_time(clock, around.clock())
        case StepRule() as step:
            return _steps_on(event, step, around)


def _steps_on(event: AnyEvent, step: StepRule, around: Surroundings) -> bool:
    if step.how == "finish":
        if not step.fqn:  # not inside any module: the iteration is what can be finished
            return isinstance(event, Iteration)
        if event.name == "forward-end" and event.subject == step.fqn:
            return True
        # torch does not look for hooks at the end of a call that began without any: it is over when the next begins.
        return event.name == "forward-begin" and around.depth() <= step.depth
    # Module to module: from one beginning to the next; the end of one is what `finish` is for.
    return event.name == "forward-begin" and (step.how == "step" or around.depth() <= step.depth)


def _is_same_time(theirs: Clock, ours: Clock) -> bool:
    return all(ours[group] == count for group, count in theirs.items() if group in ours)
