"""The persistent truth about parameters that FSDP swaps: their shards, whatever is gathered at this moment."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

Slot = tuple[int, str]
"""(id of the module that owns it, parameter name): where a parameter is registered."""

_FSDP2_STATE = "torch.distributed.fsdp._fully_shard._fsdp_state"


@dataclass(frozen=True, eq=False)
class Managed:
    """A parameter that FSDP manages, as this rank persistently holds it.

    `flat` is (first element, number of elements) of the original tensor of `shape`, where FSDP1 keeps flat shards;
    `key` is the optimizer's key of its state and `state_slice` this parameter's part of that state.
    """

    tensor: torch.Tensor
    shape: tuple[int, ...]
    note: str
    grad: torch.Tensor | None
    grad_note: str
    identity: object
    key: torch.Tensor
    flat: tuple[int, int] | None = None
    state_slice: tuple[int, int] | None = None


def find_managed(modules: Iterable[nn.Module]) -> dict[Slot, Managed]:
    """All parameters that FSDP1 or FSDP2 manages in `modules` (wrappers included), by where they are registered."""
    found: dict[Slot, Managed] = {}
    seen: set[int] = set()
    get_state = getattr(sys.modules.get(_FSDP2_STATE), "_get_module_fsdp_state", None)
    for module in modules:
        handle = vars(module).get("_handle")
        if handle is not None and hasattr(handle, "flat_param") and id(handle) not in seen:
            seen.add(id(handle))
            found.update(_read_flat(handle))
        state = get_state(module) if get_state else None
        if state is not None and id(state) not in seen:
            seen.add(id(state))
            for param in _list_fsdp2(state):
                managed = _read_fsdp2(param)
                info = param._module_info
                found[id(info.module), info.param_name] = managed
                for shared, name in zip(info.shared_modules, info.shared_param_names, strict=False):
                    found[id(shared), name] = managed
    return found


def is_flat_parameter(tensor: object) -> bool:
    """Whether this is FSDP1's own flat parameter, which is no parameter of the user's."""
    return bool(getattr(tensor, "_is_flat_param", False))


def _list_fsdp2(state: Any) -> list[Any]:
    groups = getattr(state, "_fsdp_param_groups", None)  # torch < 2.12 has one group or None
    if groups is None:
        groups = [group for group in [getattr(state, "_fsdp_param_group", None)] if group is not None]
    return [param for group in groups for param in group.fsdp_params]


def _read_fsdp2(param: Any) -> Managed:
    sharded: torch.Tensor = param.sharded_param
    axes = _axes_of(param)
    note = {
        "UNSHARDED": f"unsharded now (all-gathered on {axes})",
        "SHARDED_POST_FORWARD": f"resharded on part of {axes} after forward",
    }.get(getattr(param.sharded_state, "name", ""), "")
    grad, grad_note = sharded.grad, ""
    if grad is None:
        unsharded = getattr(param, "_unsharded_param", None)
        grad = unsharded.grad if unsharded is not None else None
        grad = grad if grad is not None else getattr(param, "unsharded_accumulated_grad", None)
        grad_note = f"unsharded gradient, not yet reduced on {axes}" if grad is not None else ""
    return Managed(sharded, tuple(sharded.shape), note, grad, grad_note, sharded, sharded)


def _axes_of(param: Any) -> str:
    mesh = getattr(param, "_shard_mesh", None) or param.mesh_info.mesh
    names = getattr(mesh, "mesh_dim_names", None)
    return ", ".join(names) if names else "its group"


def _read_flat(handle: Any) -> dict[Slot, Managed]:
    flat = handle.flat_param
    entries: list[Managed] = []
    found: dict[Slot, Managed] = {}
    is_sharded = handle.uses_sharded_strategy
    local = getattr(flat, "_local_shard", flat).detach() if is_sharded else flat.detach()
    originals = flat._params or [None] * len(flat._param_infos)
    parts = _list_parts(flat, is_sharded)
    for number, (info, shape, numel, (at, first, length)) in enumerate(
        zip(flat._param_infos, flat._shapes, flat._numels, parts, strict=True)
    ):
        original = originals[number]
        grad = _flat_grad(flat, original, at, length, local.numel(), is_sharded)
        tensor = local.view(-1)[at : at + length]
        if is_sharded:
            last = f"{first}:{first + length}" if length else "none"
            note = f"FSDP1 flat shard: elements {last} of {numel}"
        else:
            note, tensor = "FSDP1 without sharding", tensor.view(shape)
            grad = grad.view(shape) if grad is not None else None
        if is_sharded and _is_gathered(flat, local):
            note += ", unsharded now"
        entries.append(
            Managed(
                tensor.requires_grad_(flat.requires_grad),
                tuple(shape), note, grad, "", (id(flat), number),
                key=flat if original is None else original,
                flat=(first, length) if is_sharded else None,
                state_slice=(at, length) if original is None else None,
            )
        )  # fmt: skip
        found[id(info.module), info.param_name] = entries[-1]
    for shared in flat._shared_param_infos:
        primary = found.get((id(shared.prim_module), shared.prim_param_name))
        if primary is not None:
            found[id(shared.module), shared.param_name] = primary
    return found


def _list_parts(flat: Any, is_sharded: bool) -> list[tuple[int, int, int]]:
    """(index in the local shard, first element of the original, number of elements) of each original parameter."""
    if is_sharded:
        return [
            (info.offset_in_shard, info.intra_param_start_idx, info.numel_in_shard) if info.in_shard else (0, 0, 0)
            for info in flat._shard_param_infos
        ]
    parts, at = [], 0
    for numel, is_padding in zip(flat._numels_with_padding, flat._is_padding_mask, strict=True):
        if not is_padding:
            parts.append((at, 0, numel))
        at += numel
    return parts


def _flat_grad(
    flat: Any, original: torch.Tensor | None, at: int, length: int, local_numel: int, is_sharded: bool
) -> torch.Tensor | None:
    if original is not None and original.grad is not None and original.grad.numel() == length:
        return original.grad.detach().view(-1)
    if original is not None and length == 0 and flat.grad is not None:
        nothing: torch.Tensor = flat.grad.detach().view(-1)[:0]  # none of it is here, and the others have it
        return nothing
    saved: Mapping[str, Any] = vars(flat)
    whole = saved.get("_cpu_grad") if saved.get("_cpu_grad") is not None else saved.get("_saved_grad_shard")
    if whole is None and original is None:
        whole = flat.grad
    if whole is None or (is_sharded and whole.numel() != local_numel):
        return None
    part: torch.Tensor = whole.detach().view(-1)[at : at + length]
    return part


def _is_gathered(flat: torch.Tensor, local: torch.Tensor) -> bool:
    return flat.numel() != local.numel()
