"""Answers ListMeshes: every DeviceMesh that is alive in this rank."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterable
from typing import Any

from distdbg.probes.context import Context
from distdbg.probes.device import quiet
from distdbg.probes.registry import probe
from distdbg.probes.tensor import axes_of, ranks_of
from distdbg.schema.message import ListMeshes, Meshes
from distdbg.schema.tensor import Mesh


@probe(ListMeshes, needs="metadata")
def list_meshes(request: ListMeshes, context: Context) -> Meshes:
    """Meshes of this rank, equal ones once, parents before their submeshes. Scans the heap: about 0.1 s."""
    return Meshes(describe_meshes(find_meshes()))


def find_meshes() -> list[Any]:
    """Every live DeviceMesh; none in a process that never imported it.

    An instance refers to its class, so the collector finds it without a list of all objects, which would cost the
    rank megabytes at each attach.
    """
    module = sys.modules.get("torch.distributed.device_mesh")
    if module is None:
        return []
    return [found for found in gc.get_referrers(module.DeviceMesh) if type(found) is module.DeviceMesh]


def describe_meshes(meshes: Iterable[Any]) -> tuple[Mesh, ...]:
    """Describe meshes: equal ones once, most axes first, a mesh inside another one's ranks and axes last."""
    found: dict[tuple[object, ...], Mesh] = {}
    for mesh in meshes:
        described = describe_mesh(mesh)
        if described is not None:
            found.setdefault((described.axes, described.shape, described.ranks, described.device), described)
    everything = sorted(found.values(), key=lambda m: (-len(m.axes), -len(m.ranks), m.ranks, m.axes))
    return tuple(sorted(everything, key=lambda m: any(_is_inside(m, other) for other in everything)))


def describe_mesh(mesh: Any) -> Mesh | None:
    """One mesh; None where it is not complete yet (its constructor is running)."""
    try:
        with quiet():
            coordinate = mesh.get_coordinate()
            return Mesh(
                axes=axes_of(mesh),
                shape=tuple(int(size) for size in mesh.shape),
                ranks=ranks_of(mesh),
                coordinate=None if coordinate is None else tuple(int(index) for index in coordinate),
                device=str(mesh.device_type),
            )
    except (AttributeError, RuntimeError, AssertionError):
        return None


def _is_inside(mesh: Mesh, other: Mesh) -> bool:
    return len(mesh.axes) < len(other.axes) and set(mesh.ranks) <= set(other.ranks)
