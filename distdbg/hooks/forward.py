"""Events around the forward pass of chosen modules."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn

from distdbg.hooks.scene import Emit, Scene
from distdbg.schema.event import ForwardBegin, ForwardEnd


@contextmanager
def forward_begin(modules: Mapping[str, nn.Module], emit: Emit) -> Iterator[None]:
    """Emit ForwardBegin for `modules` (fqn -> module) while open.

    FSDP2 gathers parameters in a pre-hook of its own: ours is appended to it, so that it sees them unsharded.
    """
    with ExitStack() as installed:
        for fqn, module in modules.items():
            hook = partial(_begin, fqn, emit)
            installed.callback(module.register_forward_pre_hook(hook, with_kwargs=True).remove)
        yield


@contextmanager
def forward_end(modules: Mapping[str, nn.Module], emit: Emit) -> Iterator[None]:
    """Emit ForwardEnd for `modules` (fqn -> module) while open; prepended, before FSDP2 reshards."""
    with ExitStack() as installed:
        for fqn, module in modules.items():
            hook = partial(_end, fqn, emit)
            installed.callback(module.register_forward_hook(hook, prepend=True, with_kwargs=True).remove)
        yield


def is_in_backward() -> bool:
    """Whether this thread runs inside the autograd engine: a forward in there is a recomputation."""
    return bool(torch._C._current_graph_task_id() != -1)


# Hooks come and go from another thread, and torch marks a hook as taking kwargs only after it has registered it: for
# that instant it calls without them. Both signatures must work.


def _begin(
    fqn: str, emit: Emit, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any] | None = None
) -> None:
    event = ForwardBegin(fqn=fqn, class_name=type(module).__name__, is_recompute=is_in_backward())
    emit(event, Scene(module=module, args=args, kwargs=kwargs or {}))


def _end(fqn: str, emit: Emit, module: nn.Module, args: tuple[Any, ...], *kwargs_and_output: Any) -> None:
    event = ForwardEnd(fqn=fqn, class_name=type(module).__name__, is_recompute=is_in_backward())
    kwargs = kwargs_and_output[0] if len(kwargs_and_output) > 1 else {}
    emit(event, Scene(module=module, args=args, kwargs=kwargs, output=kwargs_and_output[-1]))
