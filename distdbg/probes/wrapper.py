"""Modules that wrap another one: they add a component to torch's names that the user never wrote.

Recognised by the qualified name of the wrapper's class, so that nothing is imported: a class that was never imported
has no instance. An attribute called `module` of any other class is a name like every other.
"""

from __future__ import annotations

from typing import NamedTuple
from weakref import WeakKeyDictionary

from torch import nn


class _Kind(NamedTuple):
    attribute: str
    title: str


_WRAPPERS = {
    "torch.nn.parallel.distributed.DistributedDataParallel": _Kind("module", "DDP"),
    "torch.nn.parallel.data_parallel.DataParallel": _Kind("module", "DataParallel"),
    "torch.distributed.fsdp.fully_sharded_data_parallel.FullyShardedDataParallel": _Kind(
        "_fsdp_wrapped_module", "FSDP1"
    ),
    "torch.distributed.algorithms._checkpoint.checkpoint_wrapper.OffloadWrapper": _Kind(
        "_checkpoint_wrapped_module", "offload"
    ),
    "torch.distributed.algorithms._checkpoint.checkpoint_wrapper.ActivationWrapper": _Kind(
        "_checkpoint_wrapped_module", "checkpoint"
    ),
    "torch._dynamo.eval_frame.OptimizedModule": _Kind("_orig_mod", "compile"),
    "torch.optim.swa_utils.AveragedModel": _Kind("module", "averaged"),
    "deepspeed.runtime.engine.DeepSpeedEngine": _Kind("module", "DeepSpeed"),
}
_CLASS_CHANGERS = {
    "torch.distributed.fsdp.FSDPModule": "FSDP2",
    "torch.distributed.fsdp._fully_shard._fully_shard.FSDPModule": "FSDP2",
    "torch.distributed._composable.replicate_with_fsdp.ReplicateModule": "replicate",
}

_FORWARD_OWNERS = frozenset({"DDP", "DataParallel", "compile", "DeepSpeed"})

_kinds: WeakKeyDictionary[type, _Kind | None] = WeakKeyDictionary()


class Unwrapped(NamedTuple):
    """`module` is the user's own; `wrappers` are those around it, outermost first, `titles` what they are called.

    `titles` also names what wraps in place: FSDP2, which changes the class, and `module.compile()`.
    """

    module: nn.Module
    wrappers: tuple[nn.Module, ...]
    titles: tuple[str, ...]


def unwrap(module: nn.Module) -> Unwrapped:
    """Look through wrappers down to the module that the user wrote."""
    wrappers, titles = [], []
    while (kind := _kind_of(type(module))) and (inner := children_of(module).get(kind.attribute)) is not None:
        wrappers.append(module)
        titles.append(kind.title)
        module = inner
    titles += [title for name, title in _CLASS_CHANGERS.items() if name in _ancestry(type(module))]
    if vars(module).get("_compiled_call_impl") is not None:
        titles.append("compile")
    return Unwrapped(module, tuple(wrappers), tuple(titles))


def choose_root_hook(root: Unwrapped) -> nn.Module:
    """Where a hook on the root goes: the outermost wrapper that the user calls (DDP, compile), else the module."""
    for wrapper in root.wrappers:
        kind = _kind_of(type(wrapper))
        if kind and kind.title in _FORWARD_OWNERS:
            return wrapper
    return root.module


def class_name(module: nn.Module) -> str:
    """The class that the user wrote: FSDP2's `FSDPLinear` is Linear."""
    cls = type(module)
    while any(_qualified(base) in _CLASS_CHANGERS for base in cls.__bases__):
        cls = next(base for base in cls.__bases__ if _qualified(base) not in _CLASS_CHANGERS)
    return cls.__name__


def children_of(module: nn.Module) -> dict[str, nn.Module]:
    """Direct children by name; empty for a module whose constructor has not run yet."""
    found = vars(module).get("_modules") or {}
    return {name: child for name, child in list(found.items()) if child is not None}


def is_keras(module: nn.Module) -> bool:
    """Whether this is a Keras layer, whose parameters are keyed by their full Keras path."""
    return any(cls.__module__.split(".", 1)[0] == "keras" for cls in type(module).__mro__)


def _kind_of(cls: type) -> _Kind | None:
    if cls not in _kinds:
        _kinds[cls] = next((_WRAPPERS[name] for name in _ancestry(cls) if name in _WRAPPERS), None)
    return _kinds[cls]


def _ancestry(cls: type) -> list[str]:
    return [_qualified(base) for base in cls.__mro__]


def _qualified(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"
