"""Answers ListModules: the module tree with what each part holds."""

from __future__ import annotations

import math

from distdbg.probes.context import Context
from distdbg.probes.model import ModelIndex
from distdbg.probes.parameter import Held, list_tensors, tensors_below
from distdbg.probes.registry import probe
from distdbg.probes.tensor import read_shard
from distdbg.schema.message import ListModules, Modules
from distdbg.schema.tensor import Module


@probe(ListModules, needs="metadata")
def list_modules(request: ListModules, context: Context) -> Modules:
    """Modules that match the pattern, all without one. Raises UnknownName with the nearest where none does."""
    wanted = None
    if request.pattern:
        wanted = {entry.fqn for entry in context.model.find_entries(request.pattern)}
        if not wanted:
            raise context.model.unknown(request.pattern)
    return Modules(tuple(m for m in describe_modules(context.model) if wanted is None or m.fqn in wanted))


def describe_modules(model: ModelIndex) -> list[Module]:
    """Every module in definition order, with counts over its whole subtree, buffers apart, shared parameters once."""
    listed = list_tensors(model)
    sizes = [[_measure(held) for held in tensors if held.role == "parameter"] for _, tensors in listed]
    modules = []
    for number, (entry, _) in enumerate(listed):
        parameters: dict[object, tuple[int, int, int]] = {}
        for below in range(number, number + len(tensors_below(listed, number))):
            parameters.update(sizes[below])
        modules.append(
            Module(
                fqn=entry.fqn,
                class_name=entry.class_name,
                depth=entry.depth,
                num_params=sum(count for count, _, _ in parameters.values()),
                local_params=sum(local for _, local, _ in parameters.values()),
                global_bytes=sum(count * size for count, _, size in parameters.values()),
                local_bytes=sum(local * size for _, local, size in parameters.values()),
                wrapper=", ".join(entry.titles),
            )
        )
    return modules


def _measure(held: Held) -> tuple[object, tuple[int, int, int]]:
    """(identity, (global elements, local elements, bytes of one))."""
    identity = held.identity if isinstance(held.identity, tuple) else id(held.identity)
    tensor = held.tensor
    try:
        shape = tuple(tensor.shape)
    except (RuntimeError, ValueError):  # a lazy parameter has no shape before its first forward
        return identity, (0, 0, 0)
    if held.flat is not None:
        return identity, (math.prod(held.shape or ()), held.flat[1], tensor.element_size())
    shard = read_shard(tensor)
    if shard.runs is None:
        return identity, (math.prod(shape), 0, tensor.element_size())
    local = math.prod(sum(run.length for run in runs) for runs in shard.runs)
    return identity, (math.prod(shape), local, tensor.element_size())
