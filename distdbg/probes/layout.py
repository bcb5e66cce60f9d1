"""Which global indices a rank holds, per tensor dimension, as runs. Pure arithmetic: no torch, no communication."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

_SHARD = re.compile(r"_?S\((?P<dim>\d+)(, (?P<split>\d+))?\)")


class Run(NamedTuple):
    """`length` consecutive global indices from `start`, at local index `local` of one dimension."""

    start: int
    local: int
    length: int


Spans = list[tuple[int, int]]


def compute_runs(
    shape: Sequence[int], mesh_shape: Sequence[int], coordinate: Sequence[int], placements: Sequence[str]
) -> tuple[tuple[Run, ...], ...]:
    """Runs that the rank at `coordinate` holds of a tensor of global `shape`: one tuple of runs per dimension.

    `placements`, one per mesh axis, are written as torch prints them: `S(0)` cuts as torch.chunk does, `_S(0, 2)` cuts
    each of 2 chunks and joins the n-th parts, everything else leaves the tensor whole. Axes apply from left to right.
    """
    spans: list[Spans] = [[(0, size)] if size else [] for size in shape]
    for size, index, placement in zip(mesh_shape, coordinate, placements, strict=True):
        if match := _SHARD.fullmatch(placement):
            dim = int(match["dim"])
            pieces = _chunk(spans[dim], int(match["split"] or 1))
            spans[dim] = _join([span for piece in pieces for span in _chunk(piece, size)[index]])
    return tuple(_number(dim) for dim in spans)


def compute_runs_right_to_left(
    shape: Sequence[int], mesh_shape: Sequence[int], coordinate: Sequence[int], placements: Sequence[str]
) -> tuple[tuple[Run, ...], ...]:
    """The same where strided axes were cut after the axes to their right, which is what FSDP2 does to a TP shard.

    It differs from `compute_runs` only for sizes that do not divide: there torch's own reading of the placements does
    not describe the shard that FSDP2 made.
    """
    axes = list(zip(mesh_shape, coordinate, placements, strict=True))
    ordered = [axis for axis in axes if not axis[2].startswith("_")]
    ordered += [(size, index, re.sub(r"^_S\((\d+), \d+\)$", r"S(\1)", p)) for size, index, p in axes if p[:1] == "_"]
    sizes, indices, plain = zip(*ordered, strict=True) if ordered else ((), (), ())
    return compute_runs(shape, sizes, indices, plain)


def shape_of(runs: Sequence[Sequence[Run]]) -> tuple[int, ...]:
    """Local shape: the lengths of the runs of each dimension, summed."""
    return tuple(sum(run.length for run in dim) for dim in runs)


def offset_of(runs: Sequence[Sequence[Run]], shape: Sequence[int]) -> tuple[int, ...]:
    """Global index of the first local element; the dimension's size where the shard is empty, as torch has it."""
    return tuple(dim[0].start if dim else size for dim, size in zip(runs, shape, strict=True))


def intersect(runs: Sequence[Run], start: int, stop: int) -> tuple[Run, ...]:
    """The part of `runs` inside [start, stop) of global indices."""
    found = []
    for run in runs:
        low, high = max(run.start, start), min(run.start + run.length, stop)
        if low < high:
            found.append(Run(low, run.local + low - run.start, high - low))
    return tuple(found)


def split_flat_range(shape: Sequence[int], start: int, stop: int) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Boxes, as (start, shape), that together are elements [start, stop) of a row-major tensor, in order."""
    if start >= stop:
        return []
    if not shape:
        return [((), ())]
    if len(shape) == 1:
        return [((start,), (stop - start,))]
    inner = 1
    for size in shape[1:]:
        inner *= size
    rest = tuple(shape[1:])
    boxes: list[tuple[tuple[int, ...], tuple[int, ...]]] = []
    while start < stop:
        row, column = divmod(start, inner)
        if column == 0 and stop - start >= inner:
            rows = (stop - start) // inner
            boxes.append(((row, *(0,) * len(rest)), (rows, *rest)))
            start += rows * inner
        else:
            end = min(stop, (row + 1) * inner)
            for lows, sizes in split_flat_range(rest, column, column + end - start):
                boxes.append(((row, *lows), (1, *sizes)))
            start = end
    return boxes


def _chunk(spans: Spans, count: int) -> list[Spans]:
    """Cut as torch.chunk does: ceil(size / count) each, the last ones smaller or empty."""
    size = sum(length for _, length in spans)
    step = -(-size // count) if size else 0
    return [_take(spans, step * i, step * (i + 1)) for i in range(count)]


def _take(spans: Spans, low: int, high: int) -> Spans:
    taken, position = [], 0
    for start, length in spans:
        begin, end = max(low, position), min(high, position + length)
        if begin < end:
            taken.append((start + begin - position, end - begin))
        position += length
    return taken


def _join(spans: Spans) -> Spans:
    joined: Spans = []
    for start, length in spans:
        if joined and sum(joined[-1]) == start:
            joined[-1] = (joined[-1][0], joined[-1][1] + length)
        else:
            joined.append((start, length))
    return joined


def _number(spans: Spans) -> tuple[Run, ...]:
    runs, local = [], 0
    for start, length in spans:
        runs.append(Run(start, local, length))
        local += length
    return tuple(runs)
