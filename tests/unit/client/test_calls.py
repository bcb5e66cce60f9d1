"""Who may issue a collective while expressions are evaluated, without a socket."""

from __future__ import annotations

import pytest

from distdbg.client.calls import HALTED, Calls, PendingCall
from distdbg.schema.message import Answer as AnswerMessage
from distdbg.schema.message import AskCollective, Call, Evaluated, Permit, Ping

DP = {0: (0, 2), 1: (1, 3), 2: (0, 2), 3: (1, 3)}
TP = {0: (0, 1), 1: (0, 1), 2: (2, 3), 3: (2, 3)}


class Bench:
    """A call to four ranks; `permits` are what they were told."""

    def __init__(self, ranks: tuple[int, ...] = (0, 1, 2, 3)) -> None:
        self.permits: list[tuple[int, bool, str]] = []
        self.calls = Calls(self._send, lambda rank: HALTED)
        self.call = PendingCall(1, frozenset(ranks))
        self.calls._pending[1] = self.call

    def _send(self, rank: int, message: Call | Permit) -> None:
        if isinstance(message, Permit):
            self.permits.append((rank, message.is_granted, message.reason))

    def wants(self, rank: int, groups: dict[int, tuple[int, ...]], op: str = "all_gather") -> list[tuple[int, bool]]:
        """Who is told what when this rank comes to a collective."""
        self.permits.clear()
        ranks = groups[rank]
        self.calls.wants_collective(rank, AskCollective(id=1, op=op, group=str(ranks), ranks=ranks))
        return [(who, is_granted) for who, is_granted, _ in self.permits]


def test_a_fast_group_that_is_one_collective_further_waits_for_the_slow_one() -> None:
    bench = Bench()
    assert bench.wants(1, DP) == [] and bench.wants(3, DP) == [(1, True), (3, True)]
    assert bench.wants(1, TP) == [] and bench.wants(0, DP) == []  # rank 0 is still at the first one
    assert bench.wants(3, TP) == []
    assert bench.wants(2, DP) == [(0, True), (2, True)]
    assert bench.wants(0, TP) == [(0, True), (1, True)]
    assert bench.wants(2, TP) == [(2, True), (3, True)]


def test_ranks_that_wait_for_each_other_are_all_refused() -> None:
    bench = Bench()
    assert bench.wants(0, DP) == bench.wants(1, TP) == bench.wants(2, TP) == []
    assert sorted(bench.wants(3, DP)) == [(rank, False) for rank in range(4)]
    assert {reason for _, _, reason in bench.permits} == {"the ranks want different collectives"}


def test_another_operation_on_the_same_group_is_refused() -> None:
    bench = Bench()
    assert bench.wants(0, TP) == []
    assert bench.wants(1, TP, "all_reduce") == [(0, False), (1, False)]


def test_a_rank_that_was_not_asked_or_has_answered_is_named() -> None:
    bench = Bench((0, 2, 3))
    assert bench.wants(0, TP) == [(0, False)]
    assert bench.permits[0][2] == "rank 1 does not take part"
    assert bench.wants(2, TP) == []
    bench.calls.answered(3, AnswerMessage(id=1, result=Evaluated(repr="1")))
    assert bench.permits == [(2, False, "rank 3 does not take part")]


def test_ranks_that_a_signal_has_stopped_are_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    from distdbg.client import calls

    monkeypatch.setattr(calls, "_HALTED_S", 0.0)
    assert Bench().calls.ask({3: Ping()}, 600).missing == {3: HALTED}
