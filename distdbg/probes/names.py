"""Answers ListNames: every name there is, for completion and for the nearest name."""

from __future__ import annotations

from distdbg.probes.context import Context
from distdbg.probes.meshes import describe_meshes, find_meshes
from distdbg.probes.parameter import list_tensors
from distdbg.probes.registry import probe
from distdbg.schema.message import ListNames, Names


@probe(ListNames, needs="metadata")
def list_names(request: ListNames, context: Context) -> Names:
    """Names of modules, of parameters and buffers, and of mesh axes, each in definition order."""
    listed = list_tensors(context.model)
    axes = dict.fromkeys(axis for mesh in describe_meshes(find_meshes()) for axis in mesh.axes)
    return Names(
        modules=tuple(entry.fqn for entry, _ in listed if entry.fqn),
        tensors=tuple(held.fqn for _, tensors in listed for held in tensors),
        axes=tuple(axes),
    )
