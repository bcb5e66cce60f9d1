"""Collectives of what is evaluated are looked at, and those of nobody else."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import torch
import torch.distributed as dist

from distdbg.agent.guard import Guard, ask_nobody
from distdbg.errors import WouldDeadlock


def is_hooked() -> bool:
    return torch._C._dispatch_has_kernel_for_dispatch_key("c10d::allreduce_", "BackendSelect")


@pytest.fixture
def guard() -> Iterator[Guard]:
    guard = Guard()
    yield guard
    guard.close()


def communicate() -> None:
    dist.all_reduce(torch.ones(1))


@pytest.mark.usefixtures("of_two")
def test_a_collective_of_one_rank_is_refused(guard: Guard) -> None:
    with guard.evaluating((0,), ask_nobody), pytest.raises(WouldDeadlock) as raised:
        communicate()
    assert (
        str(raised.value) == "it would all_reduce on world (ranks 0-1) while only rank 0 evaluates, and hang the job."
    )


@pytest.mark.usefixtures("of_two")
def test_when_all_evaluate_they_are_asked(guard: Guard) -> None:
    asked: list[tuple[str, str, tuple[int, ...]]] = []

    def ask(*what: object) -> str:
        asked.append(what)  # type: ignore[arg-type]
        return "" if len(asked) == 1 else "rank 1 does not"

    with guard.evaluating((0, 1), ask):
        communicate()
        with pytest.raises(WouldDeadlock, match=r"it would all_reduce on world \(ranks 0-1\): rank 1 does not\."):
            communicate()
    assert asked == [("all_reduce", "world", (0, 1))] * 2


@pytest.mark.usefixtures("of_two")
def test_conditions_never_communicate(guard: Guard) -> None:
    with guard.evaluating((0, 1), ask_nobody), pytest.raises(WouldDeadlock, match="must not communicate"):
        communicate()


@pytest.mark.usefixtures("alone")
def test_a_group_of_one_may(guard: Guard) -> None:
    with guard.evaluating((), ask_nobody):
        communicate()


@pytest.mark.usefixtures("of_two")
def test_nested_evaluations_end_one_by_one(guard: Guard) -> None:
    with guard.evaluating((0, 1), lambda *_: ""):
        with guard.evaluating((), ask_nobody), pytest.raises(WouldDeadlock):
            communicate()
        assert guard.is_evaluating()
        communicate()
    assert not guard.is_evaluating()
    communicate()


@pytest.mark.usefixtures("of_two")
def test_an_evaluation_that_raises_is_over(guard: Guard) -> None:
    with pytest.raises(KeyError), guard.evaluating((), ask_nobody):
        raise KeyError
    assert not guard.is_evaluating()
    communicate()


@pytest.mark.usefixtures("of_two")
def test_other_threads_are_untouched(guard: Guard) -> None:
    seen: list[object] = []

    def work() -> None:
        try:
            communicate()
            seen.append(guard.is_evaluating())
        except BaseException as error:
            seen.append(error)

    with guard.evaluating((), ask_nobody):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert seen == [False]


@pytest.mark.usefixtures("of_two")
def test_the_hook_stays_for_the_next_evaluation_until_it_is_closed(guard: Guard) -> None:
    assert not is_hooked()
    with guard.evaluating((), ask_nobody):
        assert is_hooked()
        guard.close()
        assert is_hooked()  # not under an evaluation
        with pytest.raises(WouldDeadlock):
            communicate()
    assert is_hooked()
    guard.close()
    guard.close()
    assert not is_hooked()
    with guard.evaluating((), ask_nobody), pytest.raises(WouldDeadlock):
        communicate()
    guard.close()
    assert not is_hooked()
