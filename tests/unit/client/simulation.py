"""A job without processes: ranks that run one small SPMD program, a network with delays, and a clock that is told.

The client in here is the real one (`Session`, `Stops`, `Rendezvous`) and so is each rank's `Engine`; sockets, threads
and time are not. Everything that happens is drawn from one seed.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from distdbg.agent.engine import Copy, Engine, Surroundings
from distdbg.client import session as session_module
from distdbg.client import stops as stops_module
from distdbg.client.gather import Gathered
from distdbg.client.session import Session
from distdbg.client.state import Change, StopAnnounced, StopReport
from distdbg.schema import message as m
from distdbg.schema.breakpoint import (
    AnyBreakpoint,
    BoundaryRule,
    LineBreakpoint,
    ModuleBreakpoint,
    StepRule,
    Watchpoint,
)
from distdbg.schema.event import AnyEvent, ForwardBegin, ForwardEnd, Iteration, Paused, Watched
from distdbg.schema.stop import Stop

_TICK_S = 0.25


@dataclass(frozen=True)
class Visit:
    """The program calls a module; `ranks` are those that have it (None: all)."""

    fqn: str
    ranks: frozenset[int] | None = None


@dataclass(frozen=True)
class Sync:
    """A collective on the groups of an axis; the next step waits for it unless it is asynchronous."""

    axis: str
    is_async: bool = False


@dataclass(frozen=True)
class Step:
    """The optimizer has stepped: an iteration boundary."""


@dataclass
class Rank:
    """One rank: where it is in the program, the hooks' rules, and whether it is parked."""

    number: int
    position: int = 0
    phase: str = "begin"
    clock: dict[str, int] = field(default_factory=dict)
    engine: Engine = field(default_factory=Engine)
    parked: Stop | None = None
    num_hits: int = 0
    is_dead: bool = False
    is_pausing: bool = False
    waits_for: dict[str, int] = field(default_factory=dict)
    watched: dict[int, str] = field(default_factory=dict)


class Deadlock(AssertionError):
    """Nothing has stopped for a long time."""


class Simulation:
    """`world` ranks on a grid of `axes` (name -> size, row-major) run `program` over and over.

    `wants(rule, rank, visit)` is the condition of a rule: `visit` counts the program's steps since its start.
    """

    def __init__(
        self,
        seed: int,
        program: list[Visit | Sync | Step],
        axes: Mapping[str, int],
        monkeypatch: pytest.MonkeyPatch,
        wants: Callable[[AnyBreakpoint, int, int], bool] = lambda rule, rank, visit: True,
        value: Callable[[int, int], str] = lambda rank, visit: "",
    ) -> None:
        self.random = random.Random(seed)
        self.program, self.wants, self.value = program, wants, value
        self.now = 100.0
        self.reports: list[StopReport] = []
        self.groups = _groups(axes)
        world = len(self.groups["world"][0])
        self.ranks = [Rank(rank) for rank in range(world)]
        for rank in self.ranks:
            rank.clock = {_key(axis, members): 0 for axis, members in self._memberships(rank.number)}
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._ids = itertools.count(1)
        self._last_sent: dict[tuple[str, int], float] = {}
        self._answers: dict[int, dict[int, Any]] = {}
        speeds = [self.random.choice((1.0, 1.0, 1.0, 3.0)) for _ in self.ranks]
        self._speed = dict(enumerate(speeds))

        fake_time = SimpleNamespace(monotonic=lambda: self.now)
        monkeypatch.setattr(stops_module, "time", fake_time)
        monkeypatch.setattr(session_module, "time", fake_time)
        monkeypatch.setattr(session_module, "Connection", lambda *_: _NoConnection())
        monkeypatch.setattr(session_module, "Calls", lambda *_: self)
        self.session = Session(dict.fromkeys(range(world)))  # type: ignore[arg-type]
        self.session.subscribe(self._hear)

        for rank in self.ranks:
            self._later(self.random.uniform(0, 0.1), lambda rank=rank: self._advance(rank))
        self._later(_TICK_S, self._tick)

    # ---- the user ---------------------------------------------------------------------------------------------------

    def run(self, duration_s: float) -> None:
        """Let time pass."""
        until = self.now + duration_s
        while self._events and self._events[0][0] <= until:
            self._next()
        self.now = max(self.now, until)

    def wait(self, timeout_s: float = 60.0) -> StopReport:
        """Until a stop is announced."""
        until, seen = self.now + timeout_s, len(self.reports)
        while len(self.reports) == seen:
            if not self._events or self._events[0][0] > until:
                raise Deadlock(self.describe())
            self._next()
        return self.reports[-1]

    def break_(self, fqn: str, **fields: Any) -> int:
        """Set a breakpoint while whatever goes on goes on; its number."""
        rule, _ = self.session.add_rule(ModuleBreakpoint(id=0, pattern=fqn, **fields))
        return rule.id

    def resume_and_wait(self) -> StopReport:
        """`continue`."""
        self.session.resume()
        return self.wait()

    def kill(self, number: int) -> None:
        """A rank's process is gone."""
        self.ranks[number].is_dead = True
        self.session._lose(number, "killed")

    def describe(self) -> str:
        """Where every rank is, for the message of a failed assert."""
        lines = [
            f"rank {rank.number}: visit {rank.position} {self._op(rank)} {rank.phase} clock {rank.clock}"
            f" {'parked ' + rank.parked.event.title if rank.parked else ''} waits {rank.waits_for}"
            for rank in self.ranks
        ]
        meetings = [
            f"{meeting.key} {sorted(meeting.stops)} announced {meeting.is_announced}"
            for meeting in self.session._stops._rendezvous.meetings
        ]
        return "\n".join([f"at {self.now:.2f} s", *lines, *meetings])

    def visits(self, report: StopReport) -> set[int]:
        """The steps of the program at which the ranks of a report are: one, when they are together."""
        return {self.ranks[rank].position for rank in report.ranks}

    # ---- what the session sees as its calls -------------------------------------------------------------------------

    def post(self, requests: Mapping[int, m.AnyRequest]) -> None:
        self._send_all(requests)

    def ask(self, requests: Mapping[int, m.AnyRequest], timeout_s: float) -> Gathered:
        if all(isinstance(request, m.Ping) for request in requests.values()):  # asked in the middle of an event
            return Gathered({rank: m.Pong(iteration=0, is_stopped=False) for rank in requests})
        call_id = self._send_all(requests)
        answers = self._answers[call_id] = {}
        until = self.now + timeout_s
        while len(answers) < len(requests) and self._events and self._events[0][0] < until:
            self._next()
        del self._answers[call_id]
        return Gathered(answers, {}, dict.fromkeys(requests.keys() - answers.keys(), "slow"))

    def lost(self, rank: int, reason: str) -> None:
        for answers in self._answers.values():
            answers.setdefault(rank, m.Failure(error="RankLost", message=reason))

    def _send_all(self, requests: Mapping[int, m.AnyRequest]) -> int:
        call_id = next(self._ids)
        for number, request in requests.items():
            self._deliver("to", number, lambda n=number, r=request: self._receive(self.ranks[n], call_id, r))
        return call_id

    # ---- time and network -------------------------------------------------------------------------------------------

    def _later(self, delay_s: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self.now + delay_s, next(self._order), action))

    def _deliver(self, direction: str, rank: int, action: Callable[[], None]) -> None:
        at = max(self.now + self.random.choice((0.0002, 0.001, 0.05)), self._last_sent.get((direction, rank), 0.0))
        self._last_sent[direction, rank] = at
        self._later(at - self.now, action)

    def _next(self) -> None:
        at, _, action = heapq.heappop(self._events)
        self.now = max(self.now, at)
        action()

    def _tick(self) -> None:
        self.session._stops.on_tick(self.now)
        self._later(_TICK_S, self._tick)

    def _hear(self, change: Change) -> None:
        if isinstance(change, StopAnnounced):
            self.reports.append(change.report)

    # ---- a rank -----------------------------------------------------------------------------------------------------

    def _memberships(self, number: int) -> list[tuple[str, frozenset[int]]]:
        return [(axis, members) for axis, all_ in self.groups.items() for members in all_ if number in members]

    def _op(self, rank: Rank) -> Visit | Sync | Step:
        return self.program[rank.position % len(self.program)]

    def _advance(self, rank: Rank) -> None:
        """Run the rank's program up to the next thing that takes time."""
        if rank.is_dead or rank.parked or rank.waits_for:
            return
        if rank.is_pausing:
            rank.is_pausing = False
            self._park(rank, Paused(), 0, True)
            return
        match self._op(rank), rank.phase:
            case Visit(fqn=fqn, ranks=ranks), "begin":
                rank.phase = "inside"
                if (ranks is None or rank.number in ranks) and self._emit(rank, ForwardBegin(fqn=fqn)):
                    return
            case Visit(fqn=fqn, ranks=ranks), "inside":
                rank.phase = "end"
                if (ranks is None or rank.number in ranks) and self._emit(rank, ForwardEnd(fqn=fqn)):
                    return
            case Step(), "begin":
                rank.phase = "end"
                if self._emit(rank, Iteration(number=rank.position // len(self.program) + 1)):
                    return
            case Sync(axis=axis, is_async=is_async), "begin":
                rank.phase = "end"
                key = next(_key(a, members) for a, members in self._memberships(rank.number) if a == axis)
                rank.clock[key] += 1
                if not is_async:
                    rank.waits_for = {key: rank.clock[key]}
                self._wake_waiting()
                if rank.waits_for:
                    return
            case _:
                rank.position, rank.phase = rank.position + 1, "begin"
        self._continue_soon(rank)

    def _continue_soon(self, rank: Rank) -> None:
        delay_s = self.random.uniform(0.0005, 0.015) * self._speed[rank.number]
        self._later(delay_s, lambda: self._advance(rank))

    def _wake_waiting(self) -> None:
        for rank in self.ranks:
            for key, count in list(rank.waits_for.items()):
                members = [other for other in self.ranks if key in other.clock]
                if all(other.clock[key] >= count for other in members):
                    rank.waits_for = {}
                    self._continue_soon(rank)

    def _emit(self, rank: Rank, event: AnyEvent) -> bool:
        """Whether the event parks the rank."""
        depth = 1 if isinstance(event, ForwardBegin) else 0
        around = Surroundings(depth=lambda: depth, clock=lambda: dict(rank.clock))
        event, rules = rank.engine.handle(event, around)
        for rule in rules:
            found: AnyEvent = event
            if isinstance(rule, Watchpoint):
                new = self.value(rank.number, rank.position)
                old, rank.watched[rule.id] = rank.watched.get(rule.id, new), new
                if old == new:
                    continue
                found = Watched(expression="x", old=old, new=new, at_event=event.name, at_subject=event.subject)
            self._park(rank, found, rule.id, self.wants(rule, rank.number, rank.position))
            return True
        return False

    def _park(self, rank: Rank, event: AnyEvent, rule: int, wanted: bool) -> None:
        rank.num_hits += 1
        rank.parked = stop = Stop(
            event=event, rule=rule, hit=rank.num_hits, wanted=wanted, clock=dict(rank.clock),
            iteration=rank.engine.iteration,
        )  # fmt: skip
        self._deliver("from", rank.number, lambda: self._say(rank, m.Stopped(stop=stop)))

    def _say(self, rank: Rank, message: m.ToClient) -> None:
        if not rank.is_dead:
            self.session._on_message(rank.number, message)

    def _receive(self, rank: Rank, call_id: int, request: m.AnyRequest) -> None:
        if rank.is_dead:
            return
        reply: m.AnyReply = m.Done()
        match request:
            case m.Install(breakpoint=rule):
                reply = self._install(rank, rule)
            case m.Remove(id=rule_id):
                copy = rank.engine.copies.get(rule_id)
                if copy is not None and isinstance(copy.rule, BoundaryRule):
                    rank.is_pausing = False
                rank.engine.remove(rule_id)
            case m.Resume(hit=hit) if rank.parked and rank.parked.hit == hit:
                rank.parked = None
                self._continue_soon(rank)
            case m.Pause() if not rank.parked:
                rank.is_pausing = True  # where it waits it parks when it returns
        self._deliver("from", rank.number, lambda: self._answer(rank, call_id, reply))

    def _answer(self, rank: Rank, call_id: int, reply: m.AnyReply) -> None:
        if call_id in self._answers and not rank.is_dead:
            self._answers[call_id][rank.number] = reply

    def _install(self, rank: Rank, rule: AnyBreakpoint) -> m.Installed:
        assert not isinstance(rule, LineBreakpoint)
        subjects: frozenset[str] = frozenset()
        if isinstance(rule, ModuleBreakpoint):
            calls = [op for op in self.program if isinstance(op, Visit) and op.fqn == rule.pattern]
            subjects = frozenset(op.fqn for op in calls if op.ranks is None or rank.number in op.ranks)
        if isinstance(rule, StepRule) and rule.how == "finish" and rank.parked:
            rule = StepRule(id=rule.id, how="finish", fqn=rank.parked.event.subject)
        rank.engine.add(Copy(rule, subjects))
        if isinstance(rule, Watchpoint):
            rank.watched[rule.id] = self.value(rank.number, rank.position)
        return m.Installed(matches=tuple((fqn, "Block") for fqn in subjects), clock=dict(rank.clock))


class _NoConnection:
    def __init__(self) -> None:
        self.send = self.open = self.close = lambda *_: None
        self.heard_at: dict[int, float] = {}


def _groups(axes: Mapping[str, int]) -> dict[str, list[frozenset[int]]]:
    """axis -> the groups of a row-major grid along it, and `world`."""
    coordinates = list(itertools.product(*(range(size) for size in axes.values())))
    groups = {"world": [frozenset(range(len(coordinates)))]}
    for index, axis in enumerate(axes):
        lines: dict[tuple[int, ...], set[int]] = {}
        for rank, where in enumerate(coordinates):
            lines.setdefault(where[:index] + where[index + 1 :], set()).add(rank)
        groups[axis] = [frozenset(line) for line in lines.values()]
    return groups


def _key(axis: str, members: frozenset[int]) -> str:
    return f"{axis}:{min(members)}-{max(members)}/{len(members)}"
