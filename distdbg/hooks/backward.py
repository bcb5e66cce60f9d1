"""Events where the backward pass reaches chosen modules."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_iter

from distdbg.hooks.scene import Emit, Scene
from distdbg.schema.event import BackwardBegin


@contextmanager
def backward_begin(modules: Mapping[str, nn.Module], emit: Emit) -> Iterator[None]:
    """Emit BackwardBegin for `modules` (fqn -> module) while open: the gradient of an output has arrived.

    Hooks sit on the outputs, not on the module: torch's full backward hooks put an identity function into the graph,
    which makes in-place changes of the output raise in a program that was correct without us.
    """
    with ExitStack() as installed:
        pending: list[Any] = []
        installed.callback(_remove_all, pending)
        for fqn, module in modules.items():
            hook = partial(_watch_output, fqn, emit, pending)
            installed.callback(module.register_forward_hook(hook, prepend=True).remove)
        yield


def _watch_output(fqn: str, emit: Emit, pending: list[Any], module: nn.Module, _args: Any, output: Any) -> None:
    if torch._C._current_graph_task_id() != -1 or not torch.is_grad_enabled():
        return  # a recomputation: the backward of the first run is the one that comes
    # Handles of graphs that are gone hold a dead reference; drop them so that the list stays as long as one step.
    pending[:] = [handle for handle in pending if handle.hooks_dict_ref() is not None]
    class_name = type(module).__name__
    arrived: list[bool] = []
    for tensor in tree_iter(output):
        if isinstance(tensor, torch.Tensor) and tensor.requires_grad:
            pending.append(tensor.register_hook(partial(_begin, fqn, class_name, emit, arrived)))


def _begin(fqn: str, class_name: str, emit: Emit, arrived: list[bool], grad: torch.Tensor) -> None:
    if arrived:  # a module with several outputs begins its backward once
        return
    arrived.append(True)
    emit(BackwardBegin(fqn=fqn, class_name=class_name), Scene(grad_output=grad))


def _remove_all(handles: list[Any]) -> None:
    for handle in handles:
        handle.remove()
    handles.clear()
