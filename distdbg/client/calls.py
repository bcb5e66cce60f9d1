"""Calls in flight: one id for all ranks that are asked, answers as they come, a deadline, and what stayed silent."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterable, Mapping

from distdbg.client.gather import Gathered
from distdbg.schema.message import Answer, AnyReply, AnyRequest, AskCollective, Call, Failure, Permit
from distdbg.schema.ranks import Ranks, format_ranks


class PendingCall:
    """One call on its way; `wanted` holds the collective that each rank's evaluation asks to issue."""

    def __init__(self, call_id: int, ranks: Ranks) -> None:
        self.id = call_id
        self.ranks = ranks
        self.answers: dict[int, AnyReply | Failure] = {}
        self.lost: dict[int, str] = {}
        self.wanted: dict[int, AskCollective] = {}
        self.changed = threading.Condition()

    @property
    def outstanding(self) -> Ranks:
        """Ranks that have not answered and are not lost."""
        return self.ranks - self.answers.keys() - self.lost.keys()


HALTED = "stopped by a signal"
"""Why a rank is silent whose process SIGSTOP, or another debugger, has stopped."""
_HALTED_S = 2.0
_DIFFERENT = "the ranks want different collectives"


class Calls:
    """Sends calls and collects their answers. `send(rank, message)` never blocks."""

    def __init__(self, send: Callable[[int, Call | Permit], None], why_silent: Callable[[int], str]) -> None:
        self._send = send
        self._why_silent = why_silent
        self._ids = itertools.count(1)
        self._pending: dict[int, PendingCall] = {}

    def post(self, requests: Mapping[int, AnyRequest]) -> None:
        """Send one request per rank and care for no answer."""
        call_id = next(self._ids)
        for rank, request in requests.items():
            self._send(rank, Call(id=call_id, request=request))

    def ask(self, requests: Mapping[int, AnyRequest], timeout_s: float) -> Gathered:
        """Send one request per rank under one id; wait for all answers or the deadline: late ones are dropped."""
        call = PendingCall(next(self._ids), frozenset(requests))
        self._pending[call.id] = call
        for rank, request in requests.items():
            self._send(rank, Call(id=call.id, request=request))
        return self._collect(call, timeout_s)

    def _collect(self, call: PendingCall, timeout_s: float) -> Gathered:
        begun = time.monotonic()
        try:
            with call.changed:
                while call.outstanding and (left := begun + timeout_s - time.monotonic()) > 0:
                    call.changed.wait(min(left, 0.2))  # short, so that Ctrl-C comes through
                    if time.monotonic() - begun > _HALTED_S and self._is_halted(call.outstanding):
                        break
        finally:
            self._pending.pop(call.id, None)
            with call.changed:
                self._decide(call, list(call.wanted), "the console no longer waits for it")
        silent = {rank: self._why_silent(rank) for rank in call.outstanding}
        replies = {r: a for r, a in call.answers.items() if not isinstance(a, Failure)}
        failures = {r: a for r, a in call.answers.items() if isinstance(a, Failure)}
        return Gathered(replies=replies, failures=failures, missing={**call.lost, **silent})

    def _is_halted(self, ranks: Iterable[int]) -> bool:
        """Whether a signal keeps all of these ranks from answering: there is nothing to wait for."""
        return all(self._why_silent(rank) == HALTED for rank in ranks)

    # ---- on the connection's thread -----------------------------------------------------------------------------

    def answered(self, rank: int, answer: Answer) -> None:
        """An answer has come."""
        call = self._pending.get(answer.id)
        if call is None:
            return
        with call.changed:
            call.answers[rank] = answer.result
            self._permit(call)
            call.changed.notify_all()

    def lost(self, rank: int, reason: str) -> None:
        """A rank went away: nobody needs to wait for it."""
        for call in list(self._pending.values()):
            if rank in call.outstanding:
                with call.changed:
                    call.lost[rank] = reason
                    self._permit(call)
                    call.changed.notify_all()

    def wants_collective(self, rank: int, notice: AskCollective) -> None:
        """An evaluation stands before a collective: it may go on when all members of the group do the same."""
        call = self._pending.get(notice.id)
        if call is None:
            self._send(rank, Permit(id=notice.id, is_granted=False, reason="the console no longer waits for it"))
            return
        with call.changed:
            call.wanted[rank] = notice
            self._permit(call)

    def _permit(self, call: PendingCall) -> None:
        """Let go whom all members of a group have joined; refuse what can no longer come about."""
        is_moving = True
        while is_moving:
            is_moving = False
            for rank, notice in list(call.wanted.items()):
                absent = [member for member in notice.ranks if member != rank and member not in call.outstanding]
                peers = [call.wanted[member] for member in notice.ranks if member in call.wanted]
                here = [peer for peer in peers if (peer.group, peer.ranks) == (notice.group, notice.ranks)]
                if rank not in call.wanted:
                    continue
                if absent:
                    self._decide(call, [rank], f"rank {format_ranks(absent)} does not take part")
                elif any(peer.op != notice.op for peer in here):
                    self._decide(call, notice.ranks, _DIFFERENT)
                elif len(here) == len(notice.ranks):
                    self._decide(call, notice.ranks, "")
                else:  # the others may still come to it, from another group's collective
                    continue
                is_moving = True
        if call.wanted and call.wanted.keys() >= set(call.outstanding):  # all wait, each for another
            self._decide(call, list(call.wanted), _DIFFERENT)

    def _decide(self, call: PendingCall, ranks: Iterable[int], reason: str) -> None:
        for rank in ranks:
            if call.wanted.pop(rank, None) is not None:
                self._send(rank, Permit(id=call.id, is_granted=not reason, reason=reason))
