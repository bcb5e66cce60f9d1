"""Stops of all ranks: who is parked where, which of it is a stop for the user, and how the ranks go on.

The rules for that are in `rendezvous`; here they meet clocks, threads and messages. The connection's thread brings
what ranks say, the user's thread steps and waits.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Mapping
from typing import Protocol

import msgspec

from distdbg.client.calls import Calls
from distdbg.client.gather import Gathered
from distdbg.client.rendezvous import Announce, Meeting, Rendezvous
from distdbg.client.rule import Rule
from distdbg.client.state import Change, RankState, StopAnnounced, StopCluster, StopReport, WarningGiven
from distdbg.errors import DistdbgError
from distdbg.schema import message as m
from distdbg.schema.breakpoint import BoundaryRule, ModuleBreakpoint, PointRule
from distdbg.schema.event import Watched
from distdbg.schema.ranks import Ranks, format_ranks
from distdbg.schema.stop import Clock, Stop

PAUSE_RULE, STANCE_RULE, STEP_RULE, POINT_RULE = -1, -2, -3, -4
"""Ids of the rules that are not the user's."""
_PAUSE_AT_BOUNDARY_S = 1.0
"""How long `pause` waits for all ranks at the next iteration boundary before it parks each where it is."""


class TimedOut(DistdbgError):
    """The ranks have not stopped in time; they go on."""

    exit_status = 124


Tell = Callable[[Change], None]


class Ask(Protocol):
    """`Session.ask`."""

    def __call__(self, request: m.AnyRequest, ranks: Ranks, *, timeout_s: float | None = None) -> Gathered: ...


class Stops:
    """The ranks' states, and what brings them to a stop and on again.

    `states` and `rules` are the session's own and seen by it; `tell` is called without the lock.
    """

    def __init__(
        self,
        states: dict[int, RankState],
        rules: dict[int, Rule],
        calls: Calls,
        ask: Ask,
        tell: Tell,
    ) -> None:
        self.states = states
        self.lock = threading.RLock()
        self._rules = rules
        self._calls = calls
        self._ask = ask
        self._tell = tell
        self._rendezvous = Rendezvous()
        self._changed = threading.Condition(self.lock)
        self._num_announced = 0
        self._pause_until: float | None = None
        self._released: dict[int, m.Resume] = {}
        self._iteration_offset: dict[int, int] = {}
        self._stance = ""

    @property
    def alive(self) -> Ranks:
        """Attached ranks that are not lost."""
        return frozenset(rank for rank, state in self.states.items() if state.status != "lost")

    @property
    def stopped(self) -> Ranks:
        """Ranks that are parked."""
        return frozenset(rank for rank, state in self.states.items() if state.status == "stopped")

    @property
    def is_at_one_point(self) -> bool:
        """Whether every rank stands at the same logical call."""
        with self.lock:
            return self.stopped == self.alive and len(self._rendezvous.meetings) == 1

    def arm(self, rule: int, clocks: Mapping[int, Clock]) -> None:
        """A rule has been (or, with no clocks, is being) installed while ranks run."""
        with self.lock:
            self._rendezvous.arm(rule, clocks)

    # ---- the user's thread ------------------------------------------------------------------------------------------

    def resume(self, ranks: Ranks | None = None, *, keep: int | None = None) -> None:
        """Let stopped ranks (default: all of them) go on; ends every step and pause under way but rule `keep`."""
        with self.lock:
            self._drop_passing_rules(keep)
            # Ranks that are still coming together are on their way already: their stop has not been shown.
            shown = {
                r: stop
                for meeting in self._rendezvous.meetings
                if meeting.is_announced
                for r, stop in meeting.stops.items()
            }
            self._release({rank: stop for rank, stop in shown.items() if ranks is None or rank in ranks})

    def _release(self, stops: Mapping[int, Stop]) -> None:
        requests = {rank: m.Resume(hit=stop.hit) for rank, stop in stops.items() if rank in self.alive}
        for rank, request in requests.items():
            self._released[rank] = request
            self._rendezvous.leave(rank)
            self.states[rank].status, self.states[rank].stop = "running", None
        self._calls.post(requests)

    def pause(self) -> None:
        """Stop the running ranks: together at the next iteration boundary if it comes soon, else each where it is."""
        running = self.alive - self.stopped
        if not running:
            return
        self._pause_until = time.monotonic() + _PAUSE_AT_BOUNDARY_S
        self._arm_boundary(PAUSE_RULE, running)

    def wait(self, timeout_s: float | None = None) -> StopReport | None:
        """Until a stop is announced (at once when all are stopped), or no rank is left (None). Raises TimedOut."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        with self._changed:
            seen = self._num_announced
            while self.alive and not self._has_stopped_since(seen):
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    raise TimedOut(f"No stop within {timeout_s:g} s; the ranks go on.")
                self._changed.wait(0.2 if left is None else min(left, 0.2))
        return self.report() if self.alive else None  # without the lock: it asks, and answers need it

    def _has_stopped_since(self, num_announced: int) -> bool:
        return self._num_announced != num_announced or (self.stopped == self.alive and self._is_announced())

    def report(self) -> StopReport:
        """Who is stopped where, and what the others do."""
        others = self._activities(self.alive - self.stopped)
        others |= {rank: f"lost: {state.lost_reason}" for rank, state in self.states.items() if state.status == "lost"}
        with self.lock:
            meetings = sorted(self._rendezvous.meetings, key=lambda meeting: min(meeting.stops))
            clusters = tuple(StopCluster(frozenset(meeting.stops), meeting.speaker) for meeting in meetings)
            notes = [note for meeting in meetings if (note := self._why_not_all(meeting))]
        return StopReport(clusters, others, "; ".join(notes))

    def _why_not_all(self, meeting: Meeting) -> str:
        """Which ranks asked for this stop, where it was not all of them."""
        wanting = frozenset(rank for rank, stop in meeting.stops.items() if stop.wanted)
        rule = self._rules.get(meeting.rule)
        if rule is None or len(wanting) == len(meeting.stops):
            return ""
        if rule.condition:
            return f"{rule.condition} holds on {format_ranks(wanting)}"
        return f"asked for on {format_ranks(wanting)} only"

    def adopt(self, welcomes: Mapping[int, m.Welcome]) -> None:
        """Take over the stops that a former console has left behind."""
        with self.lock:
            for rank, welcome in welcomes.items():
                self.states[rank].iteration = welcome.iteration
                if welcome.stop is not None and self.states[rank].stop is None:
                    stop = msgspec.structs.replace(welcome.stop, iteration=welcome.iteration)
                    self.states[rank].status, self.states[rank].stop = "stopped", stop
                    self._rendezvous.arrive(rank, stop, time.monotonic())
            if any(welcome.is_eager for welcome in welcomes.values()):
                self._stance = "force_eager"
            # The greeting shows what all ranks stand at. What is still coming together is announced like any other.
            for meeting in self._rendezvous.meetings:
                meeting.is_announced = meeting.stops.keys() == self.alive
                self._agree_on_iteration(meeting)

    def _activities(self, ranks: Ranks) -> dict[int, str]:
        if not ranks or threading.current_thread().name == "distdbg-connection":
            return dict.fromkeys(ranks, "running")
        gathered = self._ask(m.Ping(), ranks, timeout_s=1.0)
        phrases = {rank: f"does not answer ({why})" for rank, why in gathered.missing.items()}
        for rank, reply in gathered.replies.items():
            phrase = reply.activity if isinstance(reply, m.Pong) else ""
            phrases[rank] = f"running, in {phrase}" if phrase else "running"
        return phrases

    def _arm_boundary(self, rule: int, ranks: Ranks) -> None:
        self.arm(rule, {})
        gathered = self._ask(m.Install(breakpoint=BoundaryRule(id=rule)), ranks)
        self.arm(rule, {rank: r.clock for rank, r in gathered.replies.items() if isinstance(r, m.Installed)})
        self.decide()

    # ---- the connection's thread --------------------------------------------------------------------------------

    def on_stopped(self, rank: int, stop: Stop) -> None:
        """A rank has parked."""
        with self.lock:
            state = self.states[rank]
            if state.stop is not None and state.stop.hit == stop.hit:
                return  # its welcome has told
            stop = msgspec.structs.replace(stop, iteration=self._align(rank, stop.iteration))
            state.status, state.stop, state.iteration = "stopped", stop, stop.iteration
            self._rendezvous.arrive(rank, stop, time.monotonic())
            if stop.rule in self._rules:
                self._rules[stop.rule].seen_by.add(rank)
            if isinstance(stop.event, Watched):  # the others stop at the same event, if they have not passed it
                event = stop.event
                point = PointRule(id=POINT_RULE, event=event.at_event, subject=event.at_subject, clock=stop.clock)
                self._calls.post(dict.fromkeys(self.alive - self.stopped, m.Install(breakpoint=point)))
        self.decide()

    def on_pong(self, rank: int, pong: m.Pong) -> None:
        """A rank says where it is. What was under way when its connection broke (a stop by a signal does) is lost."""
        if pong.stop is None or self.states[rank].status != "running":
            return
        released = self._released.get(rank)
        if released is not None and released.hit == pong.stop.hit:
            self._calls.post({rank: released})  # once more: a hit is resumed once, however often it is said
        else:
            self.on_stopped(rank, pong.stop)

    def on_resumed(self, rank: int) -> None:
        """A rank goes on by itself."""
        with self.lock:
            self._rendezvous.leave(rank)
            self.states[rank].status, self.states[rank].stop = "running", None

    def on_iteration(self, rank: int, iteration: int) -> None:
        """A rank has come to another iteration. Says once of a breakpoint that a whole one passed without a call."""
        iteration = self.states[rank].iteration = self._align(rank, iteration)
        for rule in list(self._rules.values()):
            module_rule = rule.breakpoint
            if not isinstance(module_rule, ModuleBreakpoint) or not rule.is_enabled or not rule.matches.get(rank):
                continue
            first = rule.armed_in.setdefault(rank, iteration)
            if iteration >= first + 2 and rank not in rule.seen_by:
                rule.seen_by.update(self.states)  # say it once, not once for each rank
                title = f"{module_rule.when} of {module_rule.pattern}"
                self._tell(WarningGiven(rank, f"breakpoint {rule.id}: no {title} in a whole iteration"))

    def on_lost(self, rank: int, reason: str) -> bool:
        """A rank went away; False when that was known."""
        with self.lock:
            state = self.states[rank]
            if state.status == "lost":
                return False
            state.status, state.stop, state.lost_reason = "lost", None, reason
            self._rendezvous.leave(rank)
            self._changed.notify_all()
        return True

    def on_tick(self, now: float) -> None:
        """Time has passed: a deadline may be over."""
        if self._pause_until is not None and now > self._pause_until:
            self._pause_until = None
            with self.lock:
                if not self._is_announced():
                    self._calls.post(dict.fromkeys(self.alive - self.stopped, m.Pause()))
        self.decide()

    # ---- deciding -----------------------------------------------------------------------------------------------

    def _is_announced(self) -> bool:
        meetings = self._rendezvous.meetings
        return bool(meetings) and all(meeting.is_announced for meeting in meetings)

    def decide(self) -> None:
        """Announce what has become a stop, let go what will not."""
        announced: list[Meeting] = []
        with self.lock:
            expected = {
                rule.id: frozenset(rank for rank, matches in rule.matches.items() if matches)
                for rule in self._rules.values()
                if isinstance(rule.breakpoint, ModuleBreakpoint) and rule.matches  # not while it is being installed
            }
            for decision in self._rendezvous.decide(expected, self.alive, time.monotonic()):
                meeting = decision.meeting
                if isinstance(decision, Announce) and meeting.rule == STANCE_RULE:
                    self._apply_stance(meeting)
                elif isinstance(decision, Announce) and self._is_to_be_shown(meeting):
                    self._agree_on_iteration(meeting)
                    announced.append(meeting)
                else:
                    self._release(meeting.stops)
            if announced:
                self._pause_until = None
                self._num_announced += 1
                self._changed.notify_all()
        if announced:
            self._tell(StopAnnounced(self.report()))

    def _align(self, rank: int, iteration: int) -> int:
        return iteration + self._iteration_offset.get(rank, 0)

    def _agree_on_iteration(self, meeting: Meeting) -> None:
        """Ranks at one call are in one iteration. Where no optimizer counts, each has counted since it was attached."""
        agreed = max(stop.iteration for stop in meeting.stops.values())
        for rank, stop in meeting.stops.items():
            self._iteration_offset[rank] = self._iteration_offset.get(rank, 0) + agreed - stop.iteration
            aligned = msgspec.structs.replace(stop, iteration=agreed)
            meeting.stops[rank] = self.states[rank].stop = aligned
            self.states[rank].iteration = agreed

    def _is_to_be_shown(self, meeting: Meeting) -> bool:
        rule = self._rules.get(meeting.rule)
        if rule is None or meeting.is_late:
            return True
        rule.num_hits += 1
        if rule.ignore_count > 0:
            rule.ignore_count -= 1
            return False
        if rule.is_temporary:
            del self._rules[rule.id]
            self._calls.post(dict.fromkeys(self.alive, m.Remove(id=rule.id)))
        return True

    def _drop_passing_rules(self, keep: int | None) -> None:
        """What steps, pauses and calls to a point have left installed ends when the ranks go on."""
        for rule in (PAUSE_RULE, STEP_RULE, POINT_RULE):
            if rule != keep:
                self._calls.post(dict.fromkeys(self.alive, m.Remove(id=rule)))

    def want_stance(self, stance: str) -> None:
        """All ranks change how compiled code runs at one step: now if they stand together, else at a boundary."""
        self._stance = stance
        if self.is_at_one_point:
            self._ask(m.SetCompileStance(stance=stance), self.alive)
        else:
            self._arm_boundary(STANCE_RULE, self.alive)

    def _apply_stance(self, meeting: Meeting) -> None:
        ranks = frozenset(meeting.stops)
        self._calls.post(dict.fromkeys(ranks, m.Remove(id=STANCE_RULE)))
        self._calls.post(dict.fromkeys(ranks, m.SetCompileStance(stance=self._stance)))
        self._release(dict(meeting.stops))

    def settle_stance(self, timeout_s: float) -> None:
        """Before leaving: compiled code comes back on all ranks at one step, or they could wait for each other."""
        if self._stance == "force_eager" and not self.is_at_one_point:
            self.pause()
            with contextlib.suppress(TimedOut):
                self.wait(timeout_s)
