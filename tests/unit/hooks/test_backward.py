"""An event where the gradient of a module's output arrives; the graph is as the program made it."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from distdbg.hooks.backward import backward_begin
from distdbg.hooks.scene import Scene
from distdbg.schema.event import AnyEvent, BackwardBegin


class Recorder:
    def __init__(self) -> None:
        self.events: list[AnyEvent] = []
        self.gradients: list[torch.Tensor] = []

    def __call__(self, event: AnyEvent, scene: Scene) -> None:
        self.events.append(event)
        self.gradients.append(scene.grad_output)


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))


@pytest.fixture
def seen() -> Recorder:
    return Recorder()


def test_modules_begin_from_the_last_to_the_first(model: nn.Module, seen: Recorder) -> None:
    with backward_begin({"0": model[0], "2": model[2]}, seen):
        model(torch.ones(1, 2)).sum().backward()
    assert seen.events == [BackwardBegin(fqn="2", class_name="Linear"), BackwardBegin(fqn="0", class_name="Linear")]
    assert [tuple(gradient.shape) for gradient in seen.gradients] == [(1, 1), (1, 3)]


def test_a_module_with_several_outputs_begins_once(seen: Recorder) -> None:
    class Split(nn.Module):
        def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"a": x * 2, "b": x * 3}

    module = Split()
    with backward_begin({"s": module}, seen):
        out = module(torch.ones(1, requires_grad=True))
        (out["a"] + out["b"]).backward()
    assert len(seen.events) == 1


def test_each_call_begins_its_own_backward(model: nn.Module, seen: Recorder) -> None:
    with backward_begin({"2": model[2]}, seen):
        (model(torch.ones(1, 2)) + model(torch.zeros(1, 2))).sum().backward()
    assert len(seen.events) == 2


def test_closed_between_forward_and_backward_says_nothing(model: nn.Module, seen: Recorder) -> None:
    with backward_begin({"0": model[0]}, seen):
        loss = model(torch.ones(1, 2)).sum()
    loss.backward()
    assert seen.events == []
    assert not model[0]._forward_hooks and not model[0]._backward_hooks


def test_an_output_keeps_no_hook_after_closing(model: nn.Module, seen: Recorder) -> None:
    with backward_begin({"2": model[2]}, seen):
        out = model(torch.ones(1, 2))
        assert out._backward_hooks
    assert not out._backward_hooks


@pytest.mark.parametrize("how", ["no_grad", "no gradient wanted"])
def test_without_a_backward_nothing_is_hooked(how: str, model: nn.Module, seen: Recorder) -> None:
    if how != "no_grad":
        model.requires_grad_(False)
    with backward_begin({"2": model[2]}, seen), torch.set_grad_enabled(how != "no_grad"):
        assert not model(torch.ones(1, 2))._backward_hooks


def test_a_checkpoint_begins_once(model: nn.Module, seen: Recorder) -> None:
    with backward_begin({"": model}, seen):
        checkpoint(model, torch.ones(1, 2, requires_grad=True), use_reentrant=False).sum().backward()
    assert len(seen.events) == 1


def test_an_output_may_be_changed_in_place(model: nn.Module, seen: Recorder) -> None:
    with backward_begin({"2": model[2]}, seen):
        model(torch.ones(1, 2)).add_(1).sum().backward()
    assert len(seen.events) == 1


def test_the_gradients_are_bit_equal(model: nn.Module, seen: Recorder) -> None:
    def gradients() -> list[torch.Tensor]:
        model.zero_grad()
        model(torch.ones(1, 2)).sum().backward()
        return [parameter.grad.clone() for parameter in model.parameters()]

    plain = gradients()
    with backward_begin(dict(model.named_children()), seen):
        hooked = gradients()
    assert all(torch.equal(a, b) for a, b in zip(plain, hooked, strict=True))


def test_handles_of_graphs_that_are_gone_do_not_pile_up(model: nn.Module, seen: Recorder) -> None:
    hook = backward_begin({"2": model[2]}, seen)
    with hook:
        for _ in range(20):
            model(torch.ones(1, 2)).sum().backward()
        (registered,) = model[2]._forward_hooks.values()
        assert len(registered.args[2]) <= 2
