"""Hooks and rules of one rank: a bug of ours never reaches training."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn

from distdbg.agent.control import Control, extras_of
from distdbg.errors import UnknownName
from distdbg.hooks.scene import EMPTY, Scene
from distdbg.probes.model import ModelIndex
from distdbg.schema.breakpoint import AnyBreakpoint, ModuleBreakpoint, PointRule, StepRule, Watchpoint
from distdbg.schema.stop import Stop


class Rank:
    """A control whose stops are let go at once, and remembered."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.stops: list[Stop] = []
        self.warnings: list[str] = []
        index = ModelIndex()
        index.refresh()
        self.control = Control(index, 0, self._stopped, self.warnings.append)
        self.value: Any = 0
        self.control.open(lambda _text, _parked: self.value)

    def _stopped(self, stop: Stop) -> None:
        self.stops.append(stop)
        self.control.parking.resume()

    def install(self, rule: AnyBreakpoint) -> None:
        self.control.install(rule)

    def train(self) -> torch.Tensor:
        return self.model(torch.ones(1, 2))

    def titles(self) -> list[str]:
        return [stop.event.title for stop in self.stops]


@pytest.fixture
def rank(alone: None) -> Iterator[Rank]:
    gc.collect()  # models of other tests
    rank = Rank(nn.Sequential(nn.Linear(2, 2), nn.ReLU()))
    yield rank
    rank.control.close()


def is_hooked(model: nn.Module) -> bool:
    return any(one._forward_hooks or one._forward_pre_hooks for one in model.modules())


def test_only_matched_modules_are_hooked_and_removed(rank: Rank) -> None:
    rank.install(ModuleBreakpoint(id=1, pattern="0"))
    assert rank.model[0]._forward_pre_hooks and not rank.model[1]._forward_pre_hooks
    rank.train()
    assert rank.titles() == ["forward 0"]
    rank.control.remove(1)
    assert not is_hooked(rank.model[0])
    rank.train()
    assert len(rank.stops) == 1


def test_a_name_that_matches_nothing_installs_nothing(rank: Rank) -> None:
    with pytest.raises(UnknownName):
        rank.install(ModuleBreakpoint(id=1, pattern="nowhere"))
    assert rank.control.engine.copies == {}


def test_a_name_that_is_gone_is_in_no_other_rules_way(rank: Rank) -> None:
    rank.install(ModuleBreakpoint(id=1, pattern="0"))
    rank.install(ModuleBreakpoint(id=2, pattern="1"))
    del rank.model[0]  # Sequential: what was 1 is 0 now
    rank.control.remove(1)
    assert set(rank.control.engine.copies) == {2}
    rank.train()


@pytest.mark.parametrize(
    ("condition", "wanted", "error"),
    [
        ("input.sum() == 2", True, ""),
        ("input.sum() == 3", False, ""),
        ("missing", True, "condition 'missing': NameError: name 'missing' is not defined"),
        ("exit()", True, "condition 'exit()': SystemExit"),
    ],
)
def test_conditions(condition: str, wanted: bool, error: str, rank: Rank) -> None:
    rank.install(ModuleBreakpoint(id=1, pattern="0", condition=condition))
    rank.train()
    (stop,) = rank.stops
    assert stop.wanted is wanted
    assert stop.error.startswith(error) if error else stop.error == ""


def test_a_rank_out_of_focus_parks_and_does_not_want_to(rank: Rank) -> None:
    rank.install(ModuleBreakpoint(id=1, pattern="0", focus=(3,), condition="1 / 0"))
    rank.train()
    assert [(stop.wanted, stop.error) for stop in rank.stops] == [(False, "")]


def test_of_several_rules_the_one_that_wants_speaks(rank: Rank) -> None:
    rank.install(ModuleBreakpoint(id=1, pattern="0", condition="False"))
    rank.install(ModuleBreakpoint(id=2, pattern="0"))
    rank.train()
    assert [(stop.rule, stop.breakpoint, stop.wanted) for stop in rank.stops] == [(2, 2, True)]


def test_a_watch_names_the_event_at_which_it_changed(rank: Rank) -> None:
    rank.install(Watchpoint(id=1, expression="x"))
    rank.train()
    assert rank.stops == []
    rank.model[1].register_forward_pre_hook(lambda *_: setattr(rank, "value", 7))
    rank.train()
    (stop,) = rank.stops
    assert (stop.event.old, stop.event.new) == ("0", "7")  # type: ignore[union-attr]
    assert stop.event.at_event == "forward-end"  # type: ignore[union-attr]


def test_rules_that_are_not_the_users_have_no_number_for_him(rank: Rank) -> None:
    rank.install(StepRule(id=-3, how="step"))
    rank.install(PointRule(id=-4, event="forward-end", subject="1", clock={}))
    rank.train()
    assert {(stop.breakpoint, stop.rule) for stop in rank.stops} == {(None, -3), (None, -4)}


def test_hits_are_numbered(rank: Rank) -> None:
    rank.install(ModuleBreakpoint(id=1, pattern="0"))
    rank.train()
    rank.train()
    assert [stop.hit for stop in rank.stops] == [1, 2]


def test_a_hook_that_raises_is_closed_and_reported_and_training_goes_on(
    rank: Rank, monkeypatch: pytest.MonkeyPatch
) -> None:
    rank.install(ModuleBreakpoint(id=1, pattern="0"))
    rank.install(ModuleBreakpoint(id=2, pattern="1"))
    handle = rank.control._handle

    def fail_at_the_first(event: Any, scene: Scene) -> None:
        if event.subject == "0":
            raise RuntimeError("our bug")
        handle(event, scene)

    monkeypatch.setattr(rank.control, "_handle", fail_at_the_first)
    expected = nn.functional.relu(nn.functional.linear(torch.ones(1, 2), rank.model[0].weight, rank.model[0].bias))
    assert torch.equal(rank.train(), expected)
    assert rank.warnings == ["hook forward-begin 0 was closed, training goes on: RuntimeError: our bug"]
    assert not is_hooked(rank.model[0])
    rank.train()
    assert len(rank.warnings) == 1
    assert rank.titles() == ["forward 1"] * 2


def test_a_forked_child_does_nothing(rank: Rank, monkeypatch: pytest.MonkeyPatch) -> None:
    rank.install(ModuleBreakpoint(id=1, pattern="0"))
    pid = os.getpid()
    monkeypatch.setattr("distdbg.agent.control.os.getpid", lambda: pid + 1)
    rank.train()
    rank.control.park_here(stop_event(), None)
    assert rank.stops == []


def stop_event() -> Any:
    from distdbg.schema.event import Paused

    return Paused()


def test_an_evaluation_that_runs_the_model_does_not_stop_in_it(rank: Rank) -> None:
    model = rank.model
    rank.install(ModuleBreakpoint(id=1, pattern="0", condition="module(input) is not None"))
    model(torch.ones(1, 2))
    assert len(rank.stops) == 1


@pytest.mark.parametrize("condition", ["", "True"])
def test_closed_leaves_nothing(condition: str, rank: Rank) -> None:
    for rule_id, when in enumerate(("forward", "end", "backward"), 1):
        rank.install(ModuleBreakpoint(id=rule_id, pattern="0", when=when, condition=condition))
    rank.install(Watchpoint(id=9, expression="x"))
    rank.train().sum().backward()
    assert rank.stops
    num_stops = len(rank.stops)
    assert rank.control.close() == []
    assert not is_hooked(rank.model)
    assert not torch._C._dispatch_has_kernel_for_dispatch_key("c10d::allreduce_", "BackendSelect")
    rank.train().sum().backward()
    assert len(rank.stops) == num_stops


def test_after_closing_nothing_parks(rank: Rank) -> None:
    emit = rank.control.emitter(("forward-begin", "0"))
    rank.control.close()
    emit(stop_event(), EMPTY)
    rank.control.park_here(stop_event())
    assert rank.stops == []


def test_extras_are_what_the_scene_has() -> None:
    one, module = torch.ones(1), nn.ReLU()
    assert extras_of(EMPTY) == {}
    assert extras_of(Scene(module=module, args=(one,), kwargs={"k": 1})) == {
        "module": module, "input": one, "kwargs": {"k": 1},
    }  # fmt: skip
    assert extras_of(Scene(args=(1, 2), output=3, grad_output=4)) == {
        "input": (1, 2), "kwargs": {}, "output": 3, "grad_output": 4,
    }  # fmt: skip
