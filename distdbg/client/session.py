"""One client's attachment to all ranks of a job. The console is only one user of it; scripts are another."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import msgspec

from distdbg import errors
from distdbg.client.calls import Calls
from distdbg.client.connection import Connection
from distdbg.client.gather import Gathered
from distdbg.client.procfs import describe_exit, read_status
from distdbg.client.rendezvous import Announce, Meeting, Rendezvous
from distdbg.client.rule import Rule
from distdbg.client.state import (
    Change,
    RankRan,
    RankState,
    RankWasLost,
    StopAnnounced,
    StopCluster,
    StopReport,
    WarningGiven,
)
from distdbg.errors import DistdbgError, NotStoppedError, UsageError
from distdbg.schema import message as m
from distdbg.schema.breakpoint import AnyBreakpoint, BoundaryRule, ModuleBreakpoint, PointRule, StepRule, Watchpoint
from distdbg.schema.event import Watched
from distdbg.schema.ranks import RankContext, Ranks, format_ranks
from distdbg.schema.stop import Stop
from distdbg.wire.runtime import Record, remove_traces

PAUSE_RULE, STANCE_RULE, STEP_RULE, POINT_RULE = -1, -2, -3, -4
_PING_S = 1.0
_PAUSE_AT_BOUNDARY_S = 1.0
"""How long `pause` waits for all ranks at the next iteration boundary before it parks each where it is."""
_SILENT_S = 3.0


class TimedOut(DistdbgError):
    """The ranks have not stopped in time; they go on."""

    exit_status = 124


@dataclass(frozen=True)
class JobSummary:
    """The job as its ranks and its launcher tell it."""

    id: str
    script: str
    run_id: str
    world_size: int
    hostnames: tuple[str, ...]
    backend: str
    torch_version: str
    is_prepared: bool
    attached_in_s: float
    missing_ranks: Ranks = frozenset()


class Session:
    """All ranks of a job behind one object. Methods may be called on any thread but the connection's."""

    def __init__(self, records: Mapping[int, Record], *, timeout_s: float = 10.0) -> None:
        self.timeout_s = timeout_s
        self.welcomes: dict[int, m.Welcome] = {}
        self.states = {rank: RankState(rank) for rank in sorted(records)}
        self.rules: dict[int, Rule] = {}
        self.frame = 0
        self.focus_text = "all"
        self.job = JobSummary("", "", "", len(records), (), "", "", False, 0.0)
        self._focus: Ranks | None = None
        self._records = dict(records)
        self._callbacks: list[Callable[[Change], None]] = []
        self._rendezvous = Rendezvous()
        self._lock = threading.RLock()
        self._stopped = threading.Condition(self._lock)
        self._num_announced = 0
        self._next_rule = 1
        self._names: m.Names | None = None
        self._pinged = 0.0
        self._pause_until: float | None = None
        self._stance = ""
        self._is_leaving = False
        self._connection = Connection(records, self._on_message, self._on_exit, self._on_tick)
        self._calls = Calls(self._connection.send, self._why_silent)
        self._connection.open()

    # ---- who is there -------------------------------------------------------------------------------------------

    @property
    def alive(self) -> Ranks:
        """Attached ranks that are not lost."""
        return frozenset(rank for rank, state in self.states.items() if state.status != "lost")

    @property
    def stopped(self) -> Ranks:
        """Ranks that are parked."""
        return frozenset(rank for rank, state in self.states.items() if state.status == "stopped")

    @property
    def focus(self) -> Ranks:
        """The ranks that commands apply to."""
        return self.alive if self._focus is None else self._focus & self.alive

    @focus.setter
    def focus(self, ranks: Ranks | None) -> None:
        self._focus = None if ranks is None or ranks == self.alive else ranks

    def context(self) -> RankContext:
        """What a rank set typed now may refer to."""
        coordinates: dict[int, dict[str, int]] = {rank: {} for rank in self.states}
        for rank, welcome in self.welcomes.items():
            for mesh in welcome.meshes:
                for axis, index in zip(mesh.axes, mesh.coordinate or (), strict=False):
                    coordinates[rank].setdefault(axis, index)
        running = self.alive - self.stopped
        return RankContext(self.alive, stopped=self.stopped, running=running, coordinates=coordinates)

    def names(self) -> m.Names:
        """Names of modules, tensors and axes over all ranks; asked once."""
        if self._names is None:
            gathered = self.ask(m.ListNames(), self.alive, timeout_s=2.0)
            replies = [reply for reply in gathered.replies.values() if isinstance(reply, m.Names)]
            merged = m.Names(
                modules=tuple(dict.fromkeys(name for reply in replies for name in reply.modules)),
                tensors=tuple(dict.fromkeys(name for reply in replies for name in reply.tensors)),
                axes=tuple(dict.fromkeys(name for reply in replies for name in reply.axes)),
            )
            if gathered.missing or not replies:
                return merged
            self._names = merged
        return self._names

    # ---- asking -------------------------------------------------------------------------------------------------

    def ask(
        self, request: m.AnyRequest | Mapping[int, m.AnyRequest], ranks: Ranks | None = None, *,
        timeout_s: float | None = None,
    ) -> Gathered:  # fmt: skip
        """Ask ranks (default: those in focus) and gather one result per rank, some of which are errors."""
        if isinstance(request, Mapping):
            requests = {rank: one for rank, one in request.items() if rank in self.alive}
        else:
            chosen = self.focus if ranks is None else ranks & self.alive
            requests = dict.fromkeys(sorted(chosen), request)
        gathered = self._calls.ask(requests, self.timeout_s if timeout_s is None else timeout_s)
        asked = set(request) if isinstance(request, Mapping) else set(ranks if ranks is not None else requests)
        unreached = (asked - requests.keys()) & self.states.keys()
        return Gathered(gathered.replies, gathered.failures, {**gathered.missing, **dict.fromkeys(unreached, "gone")})

    def _why_silent(self, rank: int) -> str:
        if self.states[rank].status == "lost":
            return "gone"
        with contextlib.suppress(OSError):
            if read_status(self._records[rank].pid).state in "Tt":
                return "stopped by a signal"
        silent = time.monotonic() - self._connection.heard_at[rank] > _SILENT_S
        return "gil-held" if silent else "slow"

    # ---- breakpoints --------------------------------------------------------------------------------------------

    def add_rule(self, breakpoint: AnyBreakpoint) -> tuple[Rule, Gathered]:
        """Set a breakpoint on every rank; raises what the ranks say when it lands on none of them."""
        with self._lock:
            number, self._next_rule = self._next_rule, self._next_rule + 1
        rule = Rule(msgspec.structs.replace(breakpoint, id=number))
        gathered = self._install(rule)
        if not gathered.replies:
            with self._lock:
                self._next_rule = number
            self._raise(gathered)
        return rule, gathered

    def _install(self, rule: Rule) -> Gathered:
        # A watch is met by each rank on its own; every other rule by all ranks, or they have to be brought together.
        is_moving = not self._is_all_at_one_point() and not isinstance(rule.breakpoint, Watchpoint)
        if is_moving:  # known before the first rank can meet it
            self._rendezvous.arm(rule.id, {})
        self.rules[rule.id] = rule
        gathered = self.ask(m.Install(breakpoint=rule.breakpoint), self.alive)
        replies = {rank: reply for rank, reply in gathered.replies.items() if isinstance(reply, m.Installed)}
        if not replies:
            self.rules.pop(rule.id, None)
            return gathered
        with self._lock:
            rule.matches = {rank: reply.matches for rank, reply in replies.items()}
            rule.is_compiled = any(reply.is_compiled for reply in replies.values())
            rule.note = "; ".join(dict.fromkeys(reply.note for reply in replies.values() if reply.note))
            if is_moving:
                self._rendezvous.arm(rule.id, {rank: reply.clock for rank, reply in replies.items()})
        if rule.is_compiled:
            self._want_stance("force_eager")
        self._decide()
        return gathered

    def delete_rule(self, number: int) -> None:
        """Take a breakpoint away on every rank."""
        rule = self._rule(number)
        self.ask(m.Remove(id=number), self.alive)
        del self.rules[rule.id]
        if rule.is_compiled and not any(other.is_compiled for other in self.rules.values()):
            self._want_stance("default")

    def enable_rule(self, number: int, is_enabled: bool) -> None:
        """Switch a breakpoint off and on again."""
        self._change(number, is_enabled=is_enabled)

    def set_condition(self, number: int, text: str) -> None:
        """Give a breakpoint another condition; empty takes it away."""
        self._change(number, condition=text)

    def ignore(self, number: int, count: int) -> None:
        """Pass the next `count` hits by."""
        self._rule(number).ignore_count = count

    def _change(self, number: int, **fields: object) -> None:
        rule = self._rule(number)
        rule.change(**fields)
        self._install(rule)

    def _rule(self, number: int) -> Rule:
        rule = self.rules.get(number)
        if rule is None:
            there = ", ".join(str(other) for other in sorted(self.rules)) or "none"
            raise UsageError(f"No breakpoint {number}. There is: {there}.")
        return rule

    def _raise(self, gathered: Gathered) -> None:
        """Raise the failure that most ranks gave, as the error it was."""
        failures = [failure for _, failure in sorted(gathered.failures.items())]
        if failures:
            kind = getattr(errors, failures[0].error, DistdbgError)
            raise kind(failures[0].message)
        who = ", ".join(f"{rank} ({why})" for rank, why in sorted(gathered.missing.items()))
        raise DistdbgError(f"No rank answered: {who}." if who else "No rank is attached.")

    # ---- running ------------------------------------------------------------------------------------------------

    def resume(self, ranks: Ranks | None = None, *, keep: int | None = None) -> None:
        """Let stopped ranks (default: all of them) go on; ends every step and pause under way but rule `keep`."""
        with self._lock:
            self._drop_passing_rules(keep)
            # Ranks that are still coming together are on their way already: their stop has not been shown.
            shown = {
                r: stop
                for meeting in self._rendezvous.meetings
                if meeting.is_announced
                for r, stop in meeting.stops.items()
            }
            self._release({rank: stop for rank, stop in shown.items() if ranks is None or rank in ranks})
            self.frame = 0

    def _release(self, stops: Mapping[int, Stop]) -> None:
        requests = {rank: m.Resume(hit=stop.hit) for rank, stop in stops.items() if rank in self.alive}
        for rank in requests:
            self._rendezvous.leave(rank)
            self.states[rank].status, self.states[rank].stop = "running", None
        self._calls.post(requests)

    def step(self, how: str) -> None:
        """Go to the next module event: step (any), next (not inside the current one), finish (its end)."""
        if not self.stopped:
            raise NotStoppedError(f"No rank is stopped: `{how}` starts from a stop.")
        gathered = self.ask(m.Install(breakpoint=StepRule(id=STEP_RULE, how=how)), self.stopped)
        if not gathered.replies:
            self._raise(gathered)
        self.resume(keep=STEP_RULE)

    def pause(self) -> None:
        """Stop the running ranks: together at the next iteration boundary if it comes soon, else each where it is."""
        running = self.alive - self.stopped
        if not running:
            return
        self._rendezvous.arm(PAUSE_RULE, {})
        self._pause_until = time.monotonic() + _PAUSE_AT_BOUNDARY_S
        gathered = self.ask(m.Install(breakpoint=BoundaryRule(id=PAUSE_RULE)), running)
        clocks = {rank: r.clock for rank, r in gathered.replies.items() if isinstance(r, m.Installed)}
        with self._lock:
            self._rendezvous.arm(PAUSE_RULE, clocks)
        self._decide()

    def wait(self, timeout_s: float | None = None) -> StopReport | None:
        """Until a stop is announced (at once when all are stopped), or no rank is left (None). Raises TimedOut."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        with self._stopped:
            seen = self._num_announced
            while self.alive and not self._has_stopped_since(seen):
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    raise TimedOut(f"No stop within {timeout_s:g} s; the ranks go on.")
                self._stopped.wait(0.2 if left is None else min(left, 0.2))
        return self.report() if self.alive else None  # without the lock: it asks, and answers need it

    def _has_stopped_since(self, num_announced: int) -> bool:
        return self._num_announced != num_announced or (self.stopped == self.alive and self._is_announced())

    def report(self) -> StopReport:
        """Who is stopped where, and what the others do."""
        others = self._activities(self.alive - self.stopped)
        others |= {rank: f"lost: {state.lost_reason}" for rank, state in self.states.items() if state.status == "lost"}
        with self._lock:
            meetings = sorted(self._rendezvous.meetings, key=lambda meeting: min(meeting.stops))
            clusters = tuple(StopCluster(frozenset(meeting.stops), meeting.speaker) for meeting in meetings)
            notes = [note for meeting in meetings if (note := self._why_not_all(meeting))]
        return StopReport(clusters, others, "; ".join(notes))

    def _why_not_all(self, meeting: Meeting) -> str:
        """Which ranks asked for this stop, where it was not all of them."""
        wanting = frozenset(rank for rank, stop in meeting.stops.items() if stop.wanted)
        rule = self.rules.get(meeting.rule)
        if rule is None or len(wanting) == len(meeting.stops):
            return ""
        if rule.condition:
            return f"{rule.condition} holds on {format_ranks(wanting)}"
        return f"asked for on {format_ranks(wanting)} only"

    def adopt_stops(self) -> None:
        """Take over the stops that a former console has left behind."""
        with self._lock:
            for rank, welcome in self.welcomes.items():
                self.states[rank].iteration = welcome.iteration
                if welcome.stop is not None:
                    self.states[rank].status, self.states[rank].stop = "stopped", welcome.stop
                    self._rendezvous.arrive(rank, welcome.stop, time.monotonic())
            for meeting in self._rendezvous.meetings:
                meeting.is_announced = True

    def _activities(self, ranks: Ranks) -> dict[int, str]:
        if not ranks or threading.current_thread().name == "distdbg-connection":
            return dict.fromkeys(ranks, "running")
        gathered = self.ask(m.Ping(), ranks, timeout_s=1.0)
        phrases = {rank: f"does not answer ({why})" for rank, why in gathered.missing.items()}
        for rank, reply in gathered.replies.items():
            phrase = reply.activity if isinstance(reply, m.Pong) else ""
            phrases[rank] = f"running, in {phrase}" if phrase else "running"
        return phrases

    # ---- leaving ------------------------------------------------------------------------------------------------

    def subscribe(self, callback: Callable[[Change], None]) -> None:
        """Be told of changes, on the connection's thread."""
        self._callbacks.append(callback)

    def detach(self) -> dict[int, m.Detached | m.Failure]:
        """Take everything away on every rank, let them run, and close."""
        if self._is_leaving:
            return {}
        self._settle_stance()
        self._is_leaving = True
        gathered = self._calls.ask(dict.fromkeys(self.alive, m.Detach()), self.timeout_s)
        self._connection.close()
        found: dict[int, m.Detached | m.Failure] = dict(gathered.failures)
        found |= {rank: reply for rank, reply in gathered.replies.items() if isinstance(reply, m.Detached)}
        found |= {rank: m.Failure(error="RankLost", message=reason) for rank, reason in gathered.missing.items()}
        return found

    def _settle_stance(self) -> None:
        """Compiled code comes back on all ranks at one step: eager and compiled ranks could wait for each other."""
        if self._stance == "force_eager" and not self._is_all_at_one_point():
            self.pause()
            with contextlib.suppress(TimedOut):
                self.wait(self.timeout_s)

    def kill(self) -> None:
        """End the job: SIGTERM to every rank that is on this host."""
        self._is_leaving = True
        for rank in self.alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._records[rank].pid, signal.SIGTERM)
        self._connection.close()

    # ---- on the connection's thread -----------------------------------------------------------------------------

    def _on_message(self, rank: int, message: m.ToClient) -> None:
        match message:
            case m.Answer():
                self._calls.answered(rank, message)
            case m.AskCollective():
                self._calls.wants_collective(rank, message)
            case m.Stopped(stop=stop):
                with self._lock:
                    state = self.states[rank]
                    state.status, state.stop, state.iteration = "stopped", stop, stop.iteration
                    self._on_stopped(rank, stop)
                self._decide()
            case m.Resumed(reason=reason):
                with self._lock:
                    self._rendezvous.leave(rank)
                    self.states[rank].status, self.states[rank].stop = "running", None
                self._tell(RankRan(rank, reason))
            case m.Ticked(iteration=iteration):
                self.states[rank].iteration = iteration
                self._look_for_uncalled(rank, iteration)
            case m.Warned(text=text):
                self._tell(WarningGiven(rank, text))
            case m.Bye(reason=reason):
                self._lose(rank, reason)

    def _on_stopped(self, rank: int, stop: Stop) -> None:
        self._rendezvous.arrive(rank, stop, time.monotonic())
        rule = self.rules.get(stop.rule)
        if rule is not None:
            rule.seen_by.add(rank)
        if isinstance(stop.event, Watched):  # the others stop at the same event, if they have not passed it
            event = stop.event
            point = PointRule(id=POINT_RULE, event=event.at_event, subject=event.at_subject, clock=stop.clock)
            self._calls.post(dict.fromkeys(self.alive - self.stopped, m.Install(breakpoint=point)))

    def _look_for_uncalled(self, rank: int, iteration: int) -> None:
        """Say once of a breakpoint that a whole iteration went by without its module being called."""
        for rule in list(self.rules.values()):
            module_rule = rule.breakpoint
            if not isinstance(module_rule, ModuleBreakpoint) or not rule.is_enabled or not rule.matches.get(rank):
                continue
            first = rule.armed_in.setdefault(rank, iteration)
            if iteration >= first + 2 and rank not in rule.seen_by:
                rule.seen_by.update(self.states)  # say it once, not once for each rank
                title = f"{module_rule.when} of {module_rule.pattern}"
                self._tell(WarningGiven(rank, f"breakpoint {rule.id}: no {title} in a whole iteration"))

    def _on_exit(self, rank: int) -> None:
        reason = describe_exit(self._records[rank].pid)
        remove_traces(self._records[rank])
        self._lose(rank, reason)

    def _lose(self, rank: int, reason: str) -> None:
        with self._lock:
            state = self.states[rank]
            if state.status == "lost" or self._is_leaving:
                self._calls.lost(rank, "gone")
                return
            state.status, state.stop, state.lost_reason = "lost", None, reason
            self._rendezvous.leave(rank)
            self._calls.lost(rank, "gone")
            self._stopped.notify_all()
        self._tell(RankWasLost(rank, reason))
        self._decide()

    def _on_tick(self, now: float) -> None:
        if now - self._pinged > _PING_S and not self._is_leaving:
            self._pinged = now
            self._calls.post(dict.fromkeys(self.alive & self.welcomes.keys(), m.Ping()))
        if self._pause_until is not None and now > self._pause_until:
            self._pause_until = None
            with self._lock:
                if not self._is_announced():
                    self._calls.post(dict.fromkeys(self.alive - self.stopped, m.Pause()))
        self._decide()

    def _tell(self, change: Change) -> None:
        for callback in self._callbacks:
            callback(change)

    # ---- deciding -----------------------------------------------------------------------------------------------

    def _is_announced(self) -> bool:
        meetings = self._rendezvous.meetings
        return bool(meetings) and all(meeting.is_announced for meeting in meetings)

    def _is_all_at_one_point(self) -> bool:
        with self._lock:
            return self.stopped == self.alive and len(self._rendezvous.meetings) == 1

    def _decide(self) -> None:
        announced: list[Meeting] = []
        with self._lock:
            expected = {
                rule.id: frozenset(rank for rank, matches in rule.matches.items() if matches)
                for rule in self.rules.values()
                if isinstance(rule.breakpoint, ModuleBreakpoint)
            }
            for decision in self._rendezvous.decide(expected, self.alive, time.monotonic()):
                meeting = decision.meeting
                if isinstance(decision, Announce) and meeting.rule == STANCE_RULE:
                    self._apply_stance(meeting)
                elif isinstance(decision, Announce) and self._is_to_be_shown(meeting):
                    announced.append(meeting)
                else:
                    self._release(meeting.stops)
            if announced:
                self._pause_until = None
                self._num_announced += 1
                self._stopped.notify_all()
        if announced:
            self._tell(StopAnnounced(self.report()))

    def _is_to_be_shown(self, meeting: Meeting) -> bool:
        rule = self.rules.get(meeting.rule)
        if rule is None or meeting.is_late:
            return True
        rule.num_hits += 1
        if rule.ignore_count > 0:
            rule.ignore_count -= 1
            return False
        if rule.is_temporary:
            del self.rules[rule.id]
            self._calls.post(dict.fromkeys(self.alive, m.Remove(id=rule.id)))
        return True

    def _drop_passing_rules(self, keep: int | None) -> None:
        """What steps, pauses and calls to a point have left installed ends when the ranks go on."""
        for rule in (PAUSE_RULE, STEP_RULE, POINT_RULE):
            if rule != keep:
                self._calls.post(dict.fromkeys(self.alive, m.Remove(id=rule)))

    def _want_stance(self, stance: str) -> None:
        """All ranks change how compiled code runs at one step: now if they stand together, else at a boundary."""
        self._stance = stance
        if self._is_all_at_one_point():
            self.ask(m.SetCompileStance(stance=stance), self.alive)
            return
        self._rendezvous.arm(STANCE_RULE, {})
        gathered = self.ask(m.Install(breakpoint=BoundaryRule(id=STANCE_RULE)), self.alive)
        clocks = {rank: r.clock for rank, r in gathered.replies.items() if isinstance(r, m.Installed)}
        with self._lock:
            self._rendezvous.arm(STANCE_RULE, clocks)

    def _apply_stance(self, meeting: Meeting) -> None:
        ranks = frozenset(meeting.stops)
        self._calls.post(dict.fromkeys(ranks, m.Remove(id=STANCE_RULE)))
        self._calls.post(dict.fromkeys(ranks, m.SetCompileStance(stance=self._stance)))
        self._release(dict(meeting.stops))
