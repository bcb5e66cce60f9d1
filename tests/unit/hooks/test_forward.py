"""Events around a module's forward; afterwards the module is as it was."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from distdbg.hooks.forward import _begin, _end, forward_begin, forward_end
from distdbg.hooks.scene import Scene
from distdbg.schema.event import AnyEvent, ForwardBegin, ForwardEnd

HOOK_DICTS = [name for name in vars(nn.Module()) if "hooks" in name]


def hooks_of(module: nn.Module) -> dict[str, list[Any]]:
    """Everything that is registered on a module and below."""
    return {
        f"{fqn} {name}": list(getattr(one, name).items())
        for fqn, one in module.named_modules()
        for name in HOOK_DICTS
        if getattr(one, name)
    }


class Recorder:
    def __init__(self) -> None:
        self.events: list[AnyEvent] = []
        self.scenes: list[Scene] = []

    def __call__(self, event: AnyEvent, scene: Scene) -> None:
        self.events.append(event)
        self.scenes.append(scene)


@pytest.fixture
def model() -> nn.Module:
    return nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))


def test_begin_and_end_bring_the_tensors(model: nn.Module) -> None:
    seen = Recorder()
    given = torch.ones(1, 2)
    with forward_begin({"0": model[0]}, seen), forward_end({"0": model[0]}, seen):
        model(given)
    assert seen.events == [ForwardBegin(fqn="0", class_name="Linear"), ForwardEnd(fqn="0", class_name="Linear")]
    begin, end = seen.scenes
    assert begin.module is model[0] and begin.args[0] is given and begin.output is None
    assert end.module is model[0] and end.args[0] is given and end.output.shape == (1, 3)


def test_keyword_arguments_are_there_for_both() -> None:
    class Scaled(nn.Module):
        def forward(self, x: torch.Tensor, *, by: int) -> torch.Tensor:
            return x * by

    module, seen = Scaled(), Recorder()
    with forward_begin({"m": module}, seen), forward_end({"m": module}, seen):
        module(torch.ones(1), by=3)
    assert [dict(scene.kwargs) for scene in seen.scenes] == [{"by": 3}, {"by": 3}]


@pytest.mark.parametrize("hook", [forward_begin, forward_end])
@pytest.mark.parametrize("raises", [False, True])
def test_closed_leaves_nothing(hook: Callable[..., Any], raises: bool, model: nn.Module) -> None:
    model[0].register_forward_hook(lambda *_: None)
    model[0].register_forward_pre_hook(lambda *_: None)
    before, seen = hooks_of(model), Recorder()
    try:
        with hook(dict(model.named_children()), seen):
            assert hooks_of(model) != before
            if raises:
                raise KeyError
    except KeyError:
        pass
    assert hooks_of(model) == before
    model(torch.ones(1, 2))
    assert seen.events == []


def test_ours_begins_last_and_ends_first_so_that_fsdp_has_gathered(model: nn.Module) -> None:
    order: list[str] = []
    model[0].register_forward_pre_hook(lambda *_: order.append("gather"))
    model[0].register_forward_hook(lambda *_: order.append("reshard"))
    emit = lambda event, _scene: order.append(event.name)  # noqa: E731
    with forward_begin({"0": model[0]}, emit), forward_end({"0": model[0]}, emit):
        model(torch.ones(1, 2))
    assert order == ["gather", "forward-begin", "forward-end", "reshard"]


def test_a_checkpoints_second_forward_is_a_recomputation(model: nn.Module) -> None:
    seen = Recorder()
    with forward_begin({"0": model[0]}, seen):
        checkpoint(model, torch.ones(1, 2, requires_grad=True), use_reentrant=False).sum().backward()
    assert [event.is_recompute for event in seen.events] == [False, True]


def test_the_output_is_not_changed_and_the_gradients_are_equal(model: nn.Module) -> None:
    given = torch.ones(1, 2)
    plain = model(given)
    with forward_begin({"": model}, Recorder()), forward_end({"": model}, Recorder()):
        assert torch.equal(model(given), plain)


def test_torch_may_call_a_hook_that_it_has_not_marked_yet_without_keywords(model: nn.Module) -> None:
    seen = Recorder()
    _begin("0", seen, model[0], (1,))
    _end("0", seen, model[0], (1,), "output")
    _end("0", seen, model[0], (1,), {"k": 2}, "output")
    assert [scene.output for scene in seen.scenes] == [None, "output", "output"]
    assert [dict(scene.kwargs) for scene in seen.scenes] == [{}, {}, {"k": 2}]
