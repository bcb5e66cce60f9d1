"""Where an iteration ends: the first optimizer's step, or, in a program without one, the root module's next forward."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from distdbg.hooks.scene import Emit, Scene
from distdbg.schema.event import Iteration


@contextmanager
def iteration(roots: list[nn.Module], has_optimizer: bool, emit: Emit) -> Iterator[None]:
    """Emit Iteration while open. With several optimizers (a GAN, one per parameter) the first one seen counts.

    The number is the optimizer's own count where it keeps one on the CPU (Adam and its kin), so that it is the same on
    all ranks and in the log of the job; else it counts from 1 since this hook was opened.
    """
    with ExitStack() as installed:
        chosen: list[weakref.ref[Any]] = []
        on_root = ExitStack()
        installed.push(on_root)
        count = 0

        def after_step(optimizer: Any, _args: Any, _kwargs: Any) -> None:
            nonlocal count
            if not chosen or chosen[0]() is None:
                chosen[:] = [weakref.ref(optimizer)]
                on_root.close()
            if chosen[0]() is optimizer:
                count = _own_count(optimizer) or count + 1
                emit(Iteration(number=count), Scene())

        def before_root(_module: nn.Module, _args: Any) -> None:
            nonlocal count
            # A recomputed forward is the same iteration; inside another root's forward (an EMA copy) too.
            if torch._C._current_graph_task_id() == -1:
                count += 1
                emit(Iteration(number=count), Scene())

        installed.callback(register_optimizer_step_post_hook(after_step).remove)
        if roots and not has_optimizer:
            on_root.callback(roots[0].register_forward_pre_hook(before_root).remove)
        del roots  # a model that the program drops must not live on through us
        yield


def _own_count(optimizer: Any) -> int | None:
    """The optimizer's step counter; None where there is none or reading it would wait for a GPU."""
    for state in optimizer.state.values():
        step = state.get("step") if isinstance(state, dict) else None
        if isinstance(step, int):
            return step
        if isinstance(step, torch.Tensor) and step.device.type == "cpu" and step.numel() == 1:
            local = getattr(step, "_local_tensor", step)  # fused optimizers may keep it as a replicated DTensor
            return int(local.item())
        return None
    return None
