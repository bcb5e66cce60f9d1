"""`stats`: statistics of a tensor, per shard and over the whole."""

from __future__ import annotations

import math

from distdbg.client.merge import merge
from distdbg.console.answers import report_answers
from distdbg.console.blocks import box_of
from distdbg.console.commands.inspect import NUMBERS, number_cells
from distdbg.console.console import Console
from distdbg.console.registry import command
from distdbg.console.report import Report
from distdbg.console.syntax import TensorName
from distdbg.console.tensors import ask_tensors, stats_data, tensor_clusters
from distdbg.reporters.view import Cell, Column, Span, Table, Text, ranks_span, stack
from distdbg.schema.tensor import Stats, Tensor


@command("stats", family="look")
def stats(console: Console, name: TensorName) -> Report:
    """Show statistics of a tensor, per shard and of the whole.
    The whole is put together from the shards, without a collective. std is that of the population;
    mean, std, min and max are over finite values.

        stats layer.0.attention.wq.weight
        stats *.weight.grad
    """
    gathered, found = ask_tensors(console, name, with_stats=True)
    table = Table("", Column("ranks", "right"), Column("count", "right"), *NUMBERS, gap=2)
    for fqn, members in found.items():
        shown = fqn
        clusters = merge(members.items(), key=lambda tensor: repr((tensor.stats, box_of(tensor))))
        for cluster in clusters:
            table.add(shown, ranks_span(cluster.ranks), *_cells(cluster.answer))
            shown = ""
        whole = combine(members)
        if whole is not None and len(clusters) > 1:
            table.add("", Span("whole", "title"), *_cells_of(whole))
    notes = Text()
    tensors = [tensor for members in found.values() for tensor in members.values()]
    if any(tensor.live for tensor in tensors):
        notes.add(Span("live: read while the rank runs, values may be of different iterations", "outlier"))
    if any(placement.startswith("P") for tensor in tensors for placement in tensor.placements):
        notes.add("partial: each rank holds a term of the value, so there is no whole to count")
    data = tensor_clusters(found, lambda tensor: {"fqn": tensor.fqn, "live": tensor.live, **_data(tensor)})
    return report_answers(stack(table, notes), gathered, data)


def _data(tensor: Tensor) -> dict[str, object]:
    return {"stats": stats_data(tensor.stats) if tensor.stats else None}


def _cells(tensor: Tensor) -> tuple[Cell, ...]:
    return (str(tensor.stats.count) if tensor.stats else "", *number_cells(tensor))


def _cells_of(whole: Stats) -> tuple[Cell, ...]:
    tensor = Tensor(fqn="", kind="", shape=(), dtype="", device="", stats=whole)
    return _cells(tensor)


def combine(members: dict[int, Tensor]) -> Stats | None:
    """Statistics of the global tensor from one rank per shard; None when they cannot be put together.

    Not for plain tensors (each rank has its own), partial ones, or when a shard is missing.
    """
    shards: dict[object, Stats] = {}
    for tensor in members.values():
        if not tensor.placements or any(word.startswith("P") for word in tensor.placements):
            return None
        if tensor.coordinate is not None:
            if tensor.stats is None:
                return None
            shards.setdefault(box_of(tensor), tensor.stats)
    total = math.prod(next(iter(members.values())).shape)
    if sum(each.count for each in shards.values()) != total:
        return None
    parts = [each for each in shards.values() if each.mean is not None and each.std is not None]
    sizes = [each.count - each.num_nan - each.num_inf for each in parts]
    finite = sum(sizes)
    mean = std = None
    if finite:
        mean = sum(n * (each.mean or 0.0) for n, each in zip(sizes, parts, strict=True)) / finite
        spread = sum(
            n * ((each.std or 0.0) ** 2 + ((each.mean or 0.0) - mean) ** 2)
            for n, each in zip(sizes, parts, strict=True)
        )
        std = math.sqrt(spread / finite)
    return Stats(
        count=total,
        mean=mean,
        std=std,
        min=min((each.min for each in parts if each.min is not None), default=None),
        max=max((each.max for each in parts if each.max is not None), default=None),
        num_nan=sum(each.num_nan for each in shards.values()),
        num_inf=sum(each.num_inf for each in shards.values()),
        num_zero=sum(each.num_zero for each in shards.values()),
    )
