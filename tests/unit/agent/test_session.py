"""One client's attachment to this rank, without a wire: what it answers is caught."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from queue import SimpleQueue
from typing import Any

import pytest
import torch
from torch import nn

from distdbg.agent.session import AgentSession
from distdbg.probes.model import ModelIndex
from distdbg.schema import message as m
from distdbg.schema.breakpoint import BoundaryRule, ModuleBreakpoint
from distdbg.schema.event import Paused

LONG_S = 10.0


class Wire:
    """What a session sends."""

    def __init__(self) -> None:
        self.sent: SimpleQueue[m.ToClient] = SimpleQueue()
        self.session = AgentSession(ModelIndex(), 0, True, self.sent.put)
        self._id = 0

    def ask(self, request: m.AnyRequest) -> Any:
        """The reply; notices that come before it are dropped."""
        self._id += 1
        self.session.handle(m.Call(id=self._id, request=request))
        while True:
            message = self.sent.get(timeout=LONG_S)
            if isinstance(message, m.Answer) and message.id == self._id:
                return message.result

    def wait(self, kind: type) -> Any:
        while not isinstance(message := self.sent.get(timeout=LONG_S), kind):
            pass
        return message


@pytest.fixture
def model() -> nn.Module:
    return nn.Sequential(nn.Linear(2, 2), nn.ReLU())


@pytest.fixture
def wire(alone: None, model: nn.Module) -> Iterator[Wire]:
    wire = Wire()
    yield wire
    wire.session.close()


def in_thread(work: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=work)
    thread.start()
    return thread


def user_at_a_stop(wire: Wire, *requests: m.AnyRequest) -> tuple[threading.Thread, list[Any]]:
    """Another thread waits for a stop, asks, and lets the rank go on."""
    replies: list[Any] = []

    def work() -> None:
        replies.append(wire.wait(m.Stopped).stop)
        replies.extend(wire.ask(request) for request in requests)
        wire.ask(m.Resume())

    return in_thread(work), replies


def spin(until: Callable[[], object]) -> None:
    for _ in range(10_000_000):
        if until():
            return
    raise AssertionError("nothing came")


def test_a_breakpoint_parks_evaluates_and_lets_go(wire: Wire, model: nn.Module) -> None:
    installed = wire.ask(m.Install(breakpoint=ModuleBreakpoint(id=1, pattern="0", condition="input.sum() > 1")))
    assert installed.matches == (("0", "Linear"),)
    user, replies = user_at_a_stop(wire, m.Evaluate(text="input.shape[0] + 40"), m.Ping())
    model(torch.ones(2, 2))
    user.join(LONG_S)
    stop, evaluated, pong = replies
    assert (stop.event.title, stop.breakpoint, stop.wanted) == ("forward 0", 1, True)
    assert (evaluated.repr, pong.is_stopped) == ("42", True)
    assert not wire.ask(m.Ping()).is_stopped


def test_a_running_rank_evaluates_nothing(wire: Wire) -> None:
    assert wire.ask(m.Evaluate(text="1")).error == "NotStoppedError"


def test_a_name_that_matches_nothing_is_a_failure(wire: Wire) -> None:
    assert wire.ask(m.Install(breakpoint=ModuleBreakpoint(id=1, pattern="no.such"))).error == "UnknownName"


def test_pause_parks_the_main_thread(wire: Wire) -> None:
    user, replies = user_at_a_stop(wire)
    in_thread(lambda: wire.session.handle(m.Call(id=99, request=m.Pause()))).join()
    spin(lambda: not user.is_alive())
    assert isinstance(replies[0].event, Paused)


def test_a_pause_that_the_user_has_left_parks_nobody(wire: Wire) -> None:
    """The main thread was blocked in C while he paused the others, looked and went on."""
    calls: list[Callable[[Any], None]] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("distdbg.agent.session.call_on_main_thread", calls.append)
        wire.ask(m.Install(breakpoint=BoundaryRule(id=-1)))
        wire.ask(m.Pause())
    wire.ask(m.Remove(id=-1))
    late = in_thread(lambda: calls[0](None))
    late.join(LONG_S)
    assert not late.is_alive() and wire.sent.empty()


def test_two_pauses_park_once(wire: Wire) -> None:
    calls: list[Callable[[Any], None]] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("distdbg.agent.session.call_on_main_thread", calls.append)
        wire.ask(m.Pause())
        wire.ask(m.Pause())
    user, _ = user_at_a_stop(wire)
    calls[0](None)
    user.join(LONG_S)
    calls[1](None)
    assert wire.sent.empty()


def test_closing_leaves_the_model_as_it_was(wire: Wire, model: nn.Module) -> None:
    wire.ask(m.Install(breakpoint=ModuleBreakpoint(id=1, pattern="0")))
    assert model[0]._forward_pre_hooks
    detached = wire.session.close()
    assert detached.problems == ()
    assert not model[0]._forward_pre_hooks
    model(torch.ones(1, 2))
