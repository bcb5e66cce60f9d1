"""Calls in flight, over a channel in this process."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from distdbg.client.calls import Calls
from distdbg.client.gather import Gathered
from distdbg.schema import message as m

LONG_S = 10.0


class Channel:
    """Ranks that answer at once with what `ranks` says; None: they stay silent."""

    def __init__(self) -> None:
        self.sent: list[tuple[int, m.Call | m.Permit]] = []
        self.on_send: Callable[[int, m.Call | m.Permit], None] = lambda *_: None
        self.calls = Calls(self._send, lambda rank: f"why {rank}")

    def _send(self, rank: int, message: m.Call | m.Permit) -> None:
        self.sent.append((rank, message))
        self.on_send(rank, message)

    def answer_with(self, **results: m.AnyReply | m.Failure) -> None:
        def answer(rank: int, message: m.Call | m.Permit) -> None:
            result = results.get(f"r{rank}")
            if isinstance(message, m.Call) and result is not None:
                self.calls.answered(rank, m.Answer(id=message.id, result=result))

        self.on_send = answer

    @property
    def permits(self) -> list[tuple[int, bool, str]]:
        return [(r, one.is_granted, one.reason) for r, one in self.sent if isinstance(one, m.Permit)]


@pytest.fixture
def channel() -> Channel:
    return Channel()


PING = m.Ping()
OOPS = m.Failure(error="UsageError", message="oops")


def test_one_id_for_all_and_each_result_in_its_place(channel: Channel) -> None:
    channel.answer_with(r0=m.Done(), r1=OOPS)
    gathered = channel.calls.ask({0: PING, 1: PING, 2: PING}, 0.01)
    assert gathered == Gathered({0: m.Done()}, {1: OOPS}, {2: "why 2"})
    assert [(rank, one.id) for rank, one in channel.sent] == [(0, 1), (1, 1), (2, 1)]


def test_ids_are_never_used_twice(channel: Channel) -> None:
    channel.answer_with(r0=m.Done())
    channel.calls.ask({0: PING}, 1)
    channel.calls.post({0: PING})
    channel.calls.ask({0: PING}, 1)
    assert [one.id for _, one in channel.sent] == [1, 2, 3]


def test_nobody_to_ask_is_an_empty_answer(channel: Channel) -> None:
    assert channel.calls.ask({}, LONG_S) == Gathered()


def test_late_and_foreign_answers_are_dropped(channel: Channel) -> None:
    channel.calls.answered(0, m.Answer(id=99, result=m.Done()))
    assert channel.calls.ask({0: PING}, 0.0).missing == {0: "why 0"}
    channel.calls.answered(0, m.Answer(id=1, result=m.Done()))
    channel.answer_with(r0=m.Done(note="new"))
    assert channel.calls.ask({0: PING}, LONG_S).replies == {0: m.Done(note="new")}


def test_a_lost_rank_is_not_waited_for(channel: Channel) -> None:
    channel.on_send = lambda rank, _message: channel.calls.lost(rank, "gone")
    assert channel.calls.ask({3: PING}, LONG_S).missing == {3: "gone"}


def test_a_rank_that_answered_before_it_was_lost_has_answered(channel: Channel) -> None:
    def answer_and_die(rank: int, message: m.Call | m.Permit) -> None:
        channel.calls.answered(rank, m.Answer(id=message.id, result=m.Done()))
        channel.calls.lost(rank, "gone")

    channel.on_send = answer_and_die
    gathered = channel.calls.ask({3: PING}, LONG_S)
    assert gathered.replies == {3: m.Done()}
    assert gathered.missing == {}


def test_answers_of_another_thread_wake_the_asker(channel: Channel) -> None:
    def answer(rank: int, message: m.Call | m.Permit) -> None:
        threading.Thread(target=channel.calls.answered, args=(rank, m.Answer(id=message.id, result=m.Done()))).start()

    channel.on_send = answer
    assert channel.calls.ask({0: PING, 1: PING}, LONG_S).replies == {0: m.Done(), 1: m.Done()}


# ---- collectives of what is evaluated -------------------------------------------------------------------------------


def want(
    rank: int, *, op: str = "all_reduce", group: str = "tp", ranks: tuple[int, ...] = (0, 1)
) -> tuple[int, object]:
    return rank, m.AskCollective(id=1, op=op, group=group, ranks=ranks)


def evaluate(channel: Channel, *steps: tuple[int, object], ranks: tuple[int, ...] = (0, 1)) -> list[object]:
    """What was sent as permits when these notices and answers arrive one after the other."""

    def play(rank: int, message: m.Call | m.Permit) -> None:
        if isinstance(message, m.Call) and rank == ranks[-1]:
            for who, step in steps:
                if isinstance(step, m.AskCollective):
                    channel.calls.wants_collective(who, step)
                elif step == "lost":
                    channel.calls.lost(who, "gone")
                else:
                    channel.calls.answered(who, m.Answer(id=1, result=m.Done()))

    channel.on_send = play
    channel.calls.ask(dict.fromkeys(ranks, m.Evaluate(text="x", ranks=ranks)), 0.0)
    return list(channel.permits)


LATE = "the console no longer waits for it"
DIFFERENT = "the ranks want different collectives"


def test_granted_when_all_members_ask_the_same(channel: Channel) -> None:
    assert sorted(evaluate(channel, want(0), want(1))) == [(0, True, ""), (1, True, "")]


def test_not_granted_while_a_member_has_yet_to_ask(channel: Channel) -> None:
    assert evaluate(channel, want(0)) == [(0, False, LATE)]


def test_granted_once_for_each_collective(channel: Channel) -> None:
    permits = evaluate(channel, want(0), want(1), want(0), want(1))
    assert sorted(permits) == [(0, True, "")] * 2 + [(1, True, "")] * 2


@pytest.mark.parametrize("other", [{"op": "broadcast"}, {"group": "dp"}])
def test_refused_when_they_differ(other: dict[str, str], channel: Channel) -> None:
    permits = evaluate(channel, want(0), want(1, **other))  # type: ignore[arg-type]
    assert sorted(permits) == [(0, False, DIFFERENT), (1, False, DIFFERENT)]


def test_ranks_of_a_grid_may_be_one_collective_apart(channel: Channel) -> None:
    tp, dp = {"group": "tp", "ranks": (0, 1)}, {"group": "dp", "ranks": (1, 3)}
    steps = [want(3, **dp), want(0, **tp), want(1, **tp), want(1, **dp)]  # type: ignore[arg-type]
    permits = evaluate(channel, *steps, ranks=(0, 1, 2, 3))
    assert sorted(permits) == [(0, True, ""), (1, True, ""), (1, True, ""), (3, True, "")]


def test_refused_when_all_wait_each_for_another(channel: Channel) -> None:
    circle = [want(rank, group=f"g{rank}", ranks=(rank, (rank + 1) % 3)) for rank in range(3)]
    assert sorted(evaluate(channel, *circle, ranks=(0, 1, 2))) == [(rank, False, DIFFERENT) for rank in range(3)]


@pytest.mark.parametrize("how", ["answered", "lost"])
@pytest.mark.parametrize("order", ["before", "after"])
def test_refused_when_a_member_is_through_or_gone(how: str, order: str, channel: Channel) -> None:
    steps = [(1, how), want(0)]
    assert evaluate(channel, *(steps if order == "before" else reversed(steps))) == [
        (0, False, "rank 1 does not take part")
    ]


def test_refused_when_a_member_was_never_asked(channel: Channel) -> None:
    assert evaluate(channel, want(0, ranks=(0, 1, 5, 6))) == [(0, False, "rank 5-6 does not take part")]


def test_two_groups_do_not_wait_for_each_other(channel: Channel) -> None:
    steps = [want(0), want(2, ranks=(2, 3)), want(3, ranks=(2, 3))]
    assert sorted(evaluate(channel, *steps, ranks=(0, 1, 2, 3))) == [(0, False, LATE), (2, True, ""), (3, True, "")]


def test_nobody_waits_any_more(channel: Channel) -> None:
    channel.calls.wants_collective(4, m.AskCollective(id=77, op="x", group="g", ranks=(4, 5)))
    assert channel.permits == [(4, False, LATE)]


def test_a_call_that_ran_out_of_time_refuses_those_who_still_wait(channel: Channel) -> None:
    assert evaluate(channel, want(0)) == [(0, False, LATE)]
    channel.calls.wants_collective(*want(1))  # type: ignore[arg-type]
    assert channel.permits == [(0, False, LATE), (1, False, LATE)]
