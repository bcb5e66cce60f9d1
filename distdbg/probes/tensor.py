"""Describe a tensor as one rank holds it: shapes, placements, statistics. Nothing here communicates."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from distdbg.errors import RefusedError
from distdbg.probes import layout
from distdbg.probes.fingerprint import fingerprint
from distdbg.probes.parameter import Held, gradient_of
from distdbg.probes.statistics import compute_stats
from distdbg.schema.tensor import Stats, Tensor

_NO_NUMBERS = re.compile(r"float4\w*|u?int[1-7]|bits\w*|qu?int\w*")


class Shard(NamedTuple):
    """What a rank holds: `runs` per dim of global `shape` (None outside the mesh), `local` (None while in flight)."""

    shape: tuple[int, ...]
    runs: tuple[tuple[layout.Run, ...], ...] | None
    local: torch.Tensor | None
    placements: tuple[str, ...] = ()
    mesh: Any = None
    coordinate: tuple[int, ...] | None = None
    note: str = ""


def as_dtensor(value: object) -> Any:
    """`value` if it is a DTensor, else None; without importing DTensor into a job that has none."""
    module = sys.modules.get("torch.distributed.tensor")
    return value if module is not None and isinstance(value, module.DTensor) else None


def read_shard(tensor: torch.Tensor) -> Shard:
    """This rank's shard of `tensor` with the global indices of its elements."""
    dtensor = as_dtensor(tensor)
    shape = tuple(int(size) for size in tensor.shape)
    if dtensor is None:
        local, note = _materialized(tensor)
        return Shard(shape, tuple((layout.Run(0, 0, size),) if size else () for size in shape), local, note=note)
    local, note = _materialized(dtensor._local_tensor)
    mesh = dtensor.device_mesh
    placements = tuple(str(placement) for placement in dtensor.placements)
    found = mesh.get_coordinate()
    if found is None:
        return Shard(shape, None, local, placements, mesh, None, note)
    coordinate = tuple(int(index) for index in found)
    runs = layout.compute_runs(shape, tuple(mesh.shape), coordinate, placements)
    real = tuple(dtensor._local_tensor.shape)
    if layout.shape_of(runs) != real:
        other = layout.compute_runs_right_to_left(shape, tuple(mesh.shape), coordinate, placements)
        if layout.shape_of(other) == real:
            runs = other
        else:
            note = _join(note, f"the local shard is {list(real)}, its placements say {list(layout.shape_of(runs))}")
    return Shard(shape, runs, local, placements, mesh, coordinate, note)


def describe(held: Held, *, with_stats: bool = False, live: bool = False) -> Tensor:
    """Describe a tensor; `with_stats` reads its elements, where this kind of tensor has elements to read.

    Raises RefusedError when a live read of a busy GPU takes too long.
    """
    tensor = held.tensor
    dtype = str(tensor.dtype).removeprefix("torch.")
    if _is_uninitialized(tensor):
        return Tensor(
            fqn=held.fqn, kind="Tensor", shape=(), dtype=dtype, device=str(tensor.device), role=held.role,
            note="uninitialized: the module has not run yet",
        )  # fmt: skip
    shard = read_shard(tensor)
    mesh = shard.mesh
    local_shape, offset = _local_box(held, shard)
    reason = why_unreadable(shard.local)
    stats: Stats | None = None
    digest = None
    if with_stats and not reason and shard.local is not None:
        stats = compute_stats(shard.local, live=live) if has_statistics(tensor.dtype) else None
        digest = fingerprint(shard.local, live=live)
    return Tensor(
        fqn=held.fqn,
        kind="Tensor" if mesh is None else "DTensor",
        shape=held.shape if held.flat and held.shape is not None else shard.shape,
        dtype=dtype,
        device=str(tensor.device),
        axes=() if mesh is None else axes_of(mesh),
        mesh_shape=() if mesh is None else tuple(int(size) for size in mesh.shape),
        mesh_ranks=() if mesh is None else ranks_of(mesh),
        coordinate=shard.coordinate,
        placements=shard.placements,
        local_shape=local_shape,
        offset=offset,
        local_bytes=_num_elements(local_shape) * tensor.element_size(),
        role=held.role,
        requires_grad=bool(tensor.requires_grad),
        has_grad=held.role in ("parameter", "value") and gradient_of(held) is not None,
        note=_join(held.note, shard.note, reason),
        stats=stats,
        fingerprint=digest,
        live=live,
    )


def why_unreadable(local: torch.Tensor | None) -> str:
    """Why the elements cannot be read, or empty: no storage behind them, or no plain storage."""
    if local is None:
        return ""
    name = type(local).__name__
    if name in ("FakeTensor", "FunctionalTensor"):
        return f"{name}: it has no elements"
    if local.device.type == "meta":
        return "on the meta device: it has no elements"
    if local.is_quantized:
        return "quantized: elements are not read"
    if local.layout != torch.strided:
        return f"{str(local.layout).removeprefix('torch.')} layout: elements are not read"
    if type(local).__torch_dispatch__ is not torch.Tensor.__torch_dispatch__:
        return f"{name}: elements are not read"
    if local.numel() and local.untyped_storage().size() == 0:
        return "its storage is freed now"
    return ""


def has_statistics(dtype: torch.dtype) -> bool:
    """Whether elements of this dtype are numbers that torch can convert."""
    return not _NO_NUMBERS.fullmatch(str(dtype).removeprefix("torch."))


def axes_of(mesh: Any) -> tuple[str, ...]:
    """Axis names of a DeviceMesh; dim_0, dim_1, ... where it has none."""
    return tuple(mesh.mesh_dim_names or [f"dim_{axis}" for axis in range(mesh.ndim)])


def ranks_of(mesh: Any) -> tuple[int, ...]:
    """Global ranks of a DeviceMesh, row-major."""
    return tuple(int(rank) for rank in mesh.mesh.flatten().tolist())


def read_local(held: Held) -> tuple[Shard, torch.Tensor]:
    """The shard and its elements. Raises RefusedError with the reason where they cannot be read."""
    if _is_uninitialized(held.tensor):
        raise RefusedError(f"{held.fqn} is uninitialized: its module has not run yet.")
    shard = read_shard(held.tensor)
    reason = shard.note if shard.local is None else why_unreadable(shard.local)
    if shard.local is None or reason:
        raise RefusedError(f"Cannot read {held.fqn}: {reason}.")
    return shard, shard.local


def _materialized(tensor: torch.Tensor) -> tuple[torch.Tensor | None, str]:
    """The tensor under an AsyncCollectiveTensor; None while its collective is in flight (waiting could hang)."""
    if type(tensor).__name__ != "AsyncCollectiveTensor":
        return tensor, ""
    if getattr(tensor, "completed", False):
        return tensor.elem, ""  # type: ignore[attr-defined]
    return None, "its collective is still in flight"


def _local_box(held: Held, shard: Shard) -> tuple[tuple[int, ...], tuple[int, ...]]:
    if held.flat is not None:
        return (held.flat[1],), (held.flat[0],)
    if shard.runs is None:
        return (0,) * len(shard.shape), ()
    return layout.shape_of(shard.runs), layout.offset_of(shard.runs, shard.shape)


def _is_uninitialized(tensor: torch.Tensor) -> bool:
    return any(cls.__name__ == "UninitializedTensorMixin" for cls in type(tensor).__mro__)


def _num_elements(shape: Sequence[int]) -> int:
    total = 1
    for size in shape:
        total *= size
    return total


def _join(*notes: str) -> str:
    return ", ".join(note for note in notes if note)
