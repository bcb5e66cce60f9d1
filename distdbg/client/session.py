"""One client's attachment to all ranks of a job. The console is only one user of it; scripts are another."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import msgspec

from distdbg import errors
from distdbg.client.calls import HALTED, Calls
from distdbg.client.connection import Connection
from distdbg.client.gather import Gathered
from distdbg.client.procfs import describe_exit, read_status
from distdbg.client.rule import Rule
from distdbg.client.state import Change, RankRan, RankState, RankWasLost, StopReport, WarningGiven
from distdbg.client.stops import STEP_RULE, Stops, TimedOut
from distdbg.errors import DistdbgError, NotStoppedError, UsageError
from distdbg.schema import message as m
from distdbg.schema.breakpoint import AnyBreakpoint, StepRule, Watchpoint
from distdbg.schema.ranks import RankContext, Ranks
from distdbg.wire.runtime import Record, remove_traces

_PING_S = 1.0
_SILENT_S = 3.0


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


__all__ = ["JobSummary", "Session", "TimedOut"]


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
        self._next_rule = 1
        self._names: m.Names | None = None
        self._pinged = 0.0
        self._is_leaving = False
        self._connection = Connection(records, self._on_message, self._on_exit, self._on_tick)
        self._calls = Calls(self._connection.send, self._why_silent)
        self._stops = Stops(self.states, self.rules, self._calls, self.ask, self._tell)
        self._connection.open()

    # ---- who is there -------------------------------------------------------------------------------------------

    @property
    def alive(self) -> Ranks:
        """Attached ranks that are not lost."""
        return self._stops.alive

    @property
    def stopped(self) -> Ranks:
        """Ranks that are parked."""
        return self._stops.stopped

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
        silent = frozenset(requests)
        try:
            gathered = self._calls.ask(requests, self.timeout_s if timeout_s is None else timeout_s)
            silent = frozenset(gathered.missing)
        finally:  # Ctrl-C or the deadline: an endless evaluation must not keep the rank
            evaluating = {rank for rank in silent if isinstance(requests.get(rank), m.Evaluate)}
            self._calls.post(dict.fromkeys(evaluating & self.alive, m.Interrupt()))
        asked = set(request) if isinstance(request, Mapping) else set(ranks if ranks is not None else requests)
        unreached = (asked - requests.keys()) & self.states.keys()
        return Gathered(gathered.replies, gathered.failures, {**gathered.missing, **dict.fromkeys(unreached, "gone")})

    def _why_silent(self, rank: int) -> str:
        if self.states[rank].status == "lost":
            return "gone"
        with contextlib.suppress(OSError):
            if read_status(self._records[rank].pid).state in "Tt":
                return HALTED
        silent = time.monotonic() - self._connection.heard_at[rank] > _SILENT_S
        return "gil-held" if silent else "slow"

    # ---- breakpoints --------------------------------------------------------------------------------------------

    def add_rule(self, breakpoint: AnyBreakpoint) -> tuple[Rule, Gathered]:
        """Set a breakpoint on every rank; raises what the ranks say when it lands on none of them."""
        with self._stops.lock:
            number, self._next_rule = self._next_rule, self._next_rule + 1
        rule = Rule(msgspec.structs.replace(breakpoint, id=number))
        gathered = self._install(rule)
        if not gathered.replies:
            with self._stops.lock:
                self._next_rule = number
            self._raise(gathered)
        return rule, gathered

    def _install(self, rule: Rule) -> Gathered:
        # A watch is met by each rank on its own; every other rule by all ranks, or they have to be brought together.
        is_moving = not self._stops.is_at_one_point and not isinstance(rule.breakpoint, Watchpoint)
        if is_moving:  # known before the first rank can meet it
            self._stops.arm(rule.id, {})
        self.rules[rule.id] = rule
        gathered = self.ask(m.Install(breakpoint=rule.breakpoint), self.alive)
        replies = {rank: reply for rank, reply in gathered.replies.items() if isinstance(reply, m.Installed)}
        if not replies:
            self.rules.pop(rule.id, None)
            return gathered
        with self._stops.lock:
            rule.matches = {rank: reply.matches for rank, reply in replies.items()}
            rule.is_compiled = any(reply.is_compiled for reply in replies.values())
            rule.note = "; ".join(dict.fromkeys(reply.note for reply in replies.values() if reply.note))
            if is_moving:
                self._stops.arm(rule.id, {rank: reply.clock for rank, reply in replies.items()})
        if rule.is_compiled:
            self._stops.want_stance("force_eager")
        self._stops.decide()
        return gathered

    def delete_rule(self, number: int) -> None:
        """Take a breakpoint away on every rank."""
        rule = self._rule(number)
        self.ask(m.Remove(id=number), self.alive)
        del self.rules[rule.id]
        if rule.is_compiled and not any(other.is_compiled for other in self.rules.values()):
            self._stops.want_stance("default")

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

    def resume(self, ranks: Ranks | None = None) -> None:
        """Let stopped ranks (default: all of them) go on."""
        self._stops.resume(ranks)
        self.frame = 0

    def step(self, how: str) -> None:
        """Go to the next module event: step (any), next (not inside the current one), finish (its end)."""
        if not self.stopped:
            raise NotStoppedError(f"No rank is stopped: `{how}` starts from a stop.")
        gathered = self.ask(m.Install(breakpoint=StepRule(id=STEP_RULE, how=how)), self.stopped)
        if not gathered.replies:
            self._raise(gathered)
        self._stops.resume(keep=STEP_RULE)
        self.frame = 0

    def pause(self) -> None:
        """Stop the running ranks: together at the next iteration boundary if it comes soon, else each where it is."""
        self._stops.pause()

    def wait(self, timeout_s: float | None = None) -> StopReport | None:
        """Until a stop is announced (at once when all are stopped), or no rank is left (None). Raises TimedOut."""
        return self._stops.wait(timeout_s)

    def report(self) -> StopReport:
        """Who is stopped where, and what the others do."""
        return self._stops.report()

    def adopt(self, welcomes: Mapping[int, m.Welcome]) -> None:
        """The ranks have said who they are; take over the stops that a former console has left behind."""
        self.welcomes = dict(welcomes)
        self._stops.adopt(welcomes)

    # ---- leaving ------------------------------------------------------------------------------------------------

    def subscribe(self, callback: Callable[[Change], None]) -> None:
        """Be told of changes, on the connection's thread."""
        self._callbacks.append(callback)

    def detach(self) -> dict[int, m.Detached | m.Failure]:
        """Take everything away on every rank, let them run, and close."""
        if self._is_leaving:
            return {}
        self._stops.settle_stance(self.timeout_s)
        self._is_leaving = True
        gathered = self._calls.ask(dict.fromkeys(self.alive, m.Detach()), self.timeout_s)
        self._connection.close()
        found: dict[int, m.Detached | m.Failure] = dict(gathered.failures)
        found |= {rank: reply for rank, reply in gathered.replies.items() if isinstance(reply, m.Detached)}
        found |= {rank: m.Failure(error="RankLost", message=reason) for rank, reason in gathered.missing.items()}
        return found

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
            case m.Answer(result=result):
                self._calls.answered(rank, message)
                if isinstance(result, m.Pong):
                    self._stops.on_pong(rank, result)
            case m.AskCollective():
                self._calls.wants_collective(rank, message)
            case m.Stopped(stop=stop):
                self._stops.on_stopped(rank, stop)
            case m.Resumed(reason=reason):
                self._stops.on_resumed(rank)
                self._tell(RankRan(rank, reason))
            case m.Ticked(iteration=iteration):
                self._stops.on_iteration(rank, iteration)
            case m.Warned(text=text):
                self._tell(WarningGiven(rank, text))
            case m.Bye(reason=reason):
                self._lose(rank, reason)

    def _on_exit(self, rank: int) -> None:
        reason = describe_exit(self._records[rank].pid)
        remove_traces(self._records[rank])
        self._lose(rank, reason)

    def _lose(self, rank: int, reason: str) -> None:
        self._calls.lost(rank, "gone")
        if not self._is_leaving and self._stops.on_lost(rank, reason):
            self._tell(RankWasLost(rank, reason))
            self._stops.decide()

    def _on_tick(self, now: float) -> None:
        if now - self._pinged > _PING_S and not self._is_leaving:
            self._pinged = now
            self._calls.post(dict.fromkeys(self.alive & self.welcomes.keys(), m.Ping()))
        self._stops.on_tick(now)

    def _tell(self, change: Change) -> None:
        for callback in self._callbacks:
            callback(change)
