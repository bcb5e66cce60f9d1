"""Elements of a tensor by global index, as far as this rank owns them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch

from distdbg.errors import RefusedError, UsageError
from distdbg.probes import layout
from distdbg.probes.context import Context
from distdbg.probes.device import copy_to_host, quiet
from distdbg.probes.parameter import Held
from distdbg.probes.registry import probe
from distdbg.probes.resolve import resolve_one
from distdbg.probes.tensor import has_statistics, read_local
from distdbg.schema.message import ReadValues, Values
from distdbg.schema.tensor import Piece

Number = float | int | bool | str


@probe(ReadValues, needs="value")
def answer_read_values(request: ReadValues, context: Context) -> Values:
    """The pieces of the box that this rank owns; of a Partial tensor its own addend."""
    held = resolve_one(request.name, context)
    pieces = read_values(held, request.starts, request.stops, limit=request.limit, live=context.live)
    return Values(pieces=pieces, dtype=str(held.tensor.dtype).removeprefix("torch."), live=context.live)


def read_values(
    held: Held, starts: Sequence[int], stops: Sequence[int], *, limit: int, live: bool = False
) -> tuple[Piece, ...]:
    """Pieces of the box [starts, stops) of global indices, in index order; several where the shard is not contiguous.

    Stops beyond the tensor are cut. Raises UsageError for a box of other dimensions or of more than `limit` elements
    here, RefusedError where the elements cannot be read.
    """
    shard, local = read_local(held)
    if not has_statistics(local.dtype):
        raise RefusedError(f"Cannot read {held.fqn}: {str(local.dtype).removeprefix('torch.')} has no plain numbers.")
    shape = held.shape if held.flat and held.shape is not None else shard.shape
    box = _check_box(held.fqn, shape, starts, stops)
    if held.flat is not None:
        return _read_flat(local, shape, held.flat, box, limit, live)
    if shard.runs is None:
        return ()
    owned = [layout.intersect(runs, low, high) for runs, (low, high) in zip(shard.runs, box, strict=True)]
    _check_limit(math.prod(sum(run.length for run in dim) for dim in owned), limit)
    pieces = []
    for runs in itertools.product(*owned):
        index = tuple(slice(run.local, run.local + run.length) for run in runs)
        with quiet():
            values = _to_numbers(copy_to_host(local[index], live=live))
        pieces.append(
            Piece(start=tuple(run.start for run in runs), shape=tuple(run.length for run in runs), values=values)
        )
    return tuple(pieces)


def _read_flat(
    local: torch.Tensor,
    shape: tuple[int, ...],
    flat: tuple[int, int],
    box: list[tuple[int, int]],
    limit: int,
    live: bool,
) -> tuple[Piece, ...]:
    """A flat piece of a row-major tensor is a few boxes; each is cut with the wanted one."""
    first, count = flat
    strides = [math.prod(shape[dim + 1 :]) for dim in range(len(shape))]
    wanted = []
    for start, size in layout.split_flat_range(shape, first, first + count):
        lows = [max(at, low) for at, (low, _) in zip(start, box, strict=True)]
        sizes = [min(at + n, high) - low for at, n, low, (_, high) in zip(start, size, lows, box, strict=True)]
        if all(n > 0 for n in sizes):
            wanted.append((tuple(lows), tuple(sizes)))
    _check_limit(sum(math.prod(sizes) for _, sizes in wanted), limit)
    pieces = []
    for start, size in wanted:
        at = sum(low * stride for low, stride in zip(start, strides, strict=True)) - first
        with quiet():
            view = local.view(-1).as_strided(size, strides, local.storage_offset() + at)
            values = _to_numbers(copy_to_host(view, live=live))
        pieces.append(Piece(start=start, shape=size, values=values))
    return tuple(pieces)


def _check_box(fqn: str, shape: tuple[int, ...], starts: Sequence[int], stops: Sequence[int]) -> list[tuple[int, int]]:
    if len(starts) != len(shape) or len(stops) != len(shape):
        raise UsageError(f"{fqn} has {len(shape)} dims {list(shape)}; the index has {len(starts)}.")
    if any(start < 0 for start in starts):
        raise UsageError(f"{fqn}{list(shape)}: indices of a box count from 0, not {list(starts)}.")
    return [(low, min(high, size)) for low, high, size in zip(starts, stops, shape, strict=True)]


def _check_limit(count: int, limit: int) -> None:
    if count > limit:
        raise UsageError(f"{count} values are more than the limit of {limit}: ask for a smaller slice.")


def _to_numbers(chunk: torch.Tensor) -> tuple[Number, ...]:
    if chunk.dtype.itemsize == 1 and chunk.is_floating_point():
        chunk = chunk.to(torch.float32)  # tolist of float8 is not implemented
    if chunk.dtype == torch.complex32:
        chunk = chunk.to(torch.complex64)
    return tuple(_to_number(value) for value in chunk.reshape(-1).tolist())


def _to_number(value: Number | complex) -> Number:
    if isinstance(value, (complex, str)):
        return str(value)
    return value if math.isfinite(value) else str(value)
