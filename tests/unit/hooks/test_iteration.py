"""Where an iteration ends, and that nothing of it stays."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import SGD, Adam, Optimizer
from torch.optim.optimizer import _global_optimizer_post_hooks

from distdbg.hooks.iteration import iteration
from distdbg.hooks.scene import Scene
from distdbg.schema.event import AnyEvent, Iteration


@pytest.fixture
def model() -> nn.Module:
    return nn.Linear(2, 1)


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    before = dict(_global_optimizer_post_hooks)
    yield
    assert dict(_global_optimizer_post_hooks) == before


class Numbers(list[int]):
    def __call__(self, event: AnyEvent, _scene: Scene) -> None:
        assert isinstance(event, Iteration)
        self.append(event.number)


def train(model: nn.Module, *optimizers: Optimizer) -> None:
    model(torch.ones(1, 2)).sum().backward()
    for optimizer in optimizers:
        optimizer.step()


def test_adams_own_count_is_the_number(model: nn.Module) -> None:
    numbers, adam = Numbers(), Adam(model.parameters())
    for _ in range(5):
        train(model, adam)
    with iteration([model], True, numbers):
        train(model, adam)
        train(model, adam)
    assert numbers == [6, 7]


def test_without_a_count_it_counts_from_one(model: nn.Module) -> None:
    numbers, sgd = Numbers(), SGD(model.parameters(), 0.1)
    train(model, sgd)
    with iteration([model], True, numbers):
        train(model, sgd)
        train(model, sgd)
    assert numbers == [1, 2]


def test_the_first_of_several_optimizers_counts(model: nn.Module) -> None:
    numbers = Numbers()
    optimizers = [SGD([parameter], 0.1) for parameter in model.parameters()]
    with iteration([model], True, numbers):
        train(model, *optimizers)
        train(model, *optimizers)
    assert numbers == [1, 2]


def test_another_takes_over_when_the_first_is_gone(model: nn.Module) -> None:
    numbers, second = Numbers(), SGD(model.parameters(), 0.1)
    with iteration([model], True, numbers):
        train(model, SGD(model.parameters(), 0.1))
        train(model, second)
    assert numbers == [1, 2]


def test_without_an_optimizer_the_roots_forward_counts(model: nn.Module) -> None:
    numbers = Numbers()
    with iteration([model], False, numbers):
        model(torch.ones(1, 2))
        model(torch.ones(1, 2))
    assert numbers == [1, 2]
    assert not model._forward_pre_hooks


def test_an_optimizer_that_comes_later_takes_over_from_the_root(model: nn.Module) -> None:
    numbers = Numbers()
    with iteration([model], False, numbers):
        train(model, SGD(model.parameters(), 0.1))
        assert numbers == [1, 2]
        assert not model._forward_pre_hooks
        model(torch.ones(1, 2))
    assert numbers == [1, 2]


@pytest.mark.parametrize("has_optimizer", [True, False])
def test_closed_says_nothing(has_optimizer: bool, model: nn.Module) -> None:
    numbers, sgd = Numbers(), SGD(model.parameters(), 0.1)
    with iteration([model], has_optimizer, numbers):
        pass
    train(model, sgd)
    assert numbers == []
    assert not model._forward_pre_hooks


def test_a_program_without_a_model_is_no_error() -> None:
    with iteration([], False, Numbers()):
        pass


@pytest.mark.parametrize("make", [lambda p: Adam(p, foreach=True), lambda p: Adam(p, fused=True), Adam])
def test_every_kind_of_adam_tells_its_count(make: Callable[[Any], Optimizer], model: nn.Module) -> None:
    numbers, adam = Numbers(), make(model.parameters())
    with iteration([model], True, numbers):
        for _ in range(3):
            train(model, adam)
    assert numbers == [1, 2, 3]


@pytest.mark.parametrize("has_optimizer", [True, False])
def test_a_model_that_the_program_drops_is_gone(has_optimizer: bool) -> None:
    dropped = nn.Linear(2, 1)
    reference = weakref.ref(dropped)
    with iteration([dropped], has_optimizer, Numbers()):
        del dropped
        gc.collect()
        assert reference() is None
