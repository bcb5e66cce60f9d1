"""Who holds which block of a tensor, from each rank's offset and local shape. Pure; for any number of dims."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from distdbg.schema.ranks import Ranks
from distdbg.schema.tensor import Tensor

Box = tuple[tuple[int, int], ...]
"""[start, stop) per dim."""


@dataclass(frozen=True)
class Layout:
    """The blocks of one tensor: `owners` box -> ranks, `empty` ranks with nothing, `outside` ranks not in its mesh.

    `is_tiled` is False where the boxes overlap or leave holes: a strided shard whose rows interleave.
    """

    shape: tuple[int, ...]
    owners: dict[Box, Ranks]
    empty: Ranks
    outside: Ranks
    is_tiled: bool

    def bounds(self, dim: int) -> list[int]:
        """Where blocks begin and end along `dim`."""
        found = {0, self.shape[dim]}
        for box in self.owners:
            found |= set(box[dim])
        return sorted(found)

    @property
    def split_dims(self) -> list[int]:
        """Dims with more than one block, the most split first."""
        dims = [dim for dim in range(len(self.shape)) if len(self.bounds(dim)) > 2]
        return sorted(dims, key=lambda dim: (-len(self.bounds(dim)), dim))

    def holders(self, box: Box) -> Ranks:
        """The ranks whose block covers `box`."""
        return frozenset(
            rank
            for owned, ranks in self.owners.items()
            if all(low <= a and b <= high for (low, high), (a, b) in zip(owned, box, strict=True))
            for rank in ranks
        )


def box_of(tensor: Tensor) -> Box:
    """The part of the global tensor that this rank holds."""
    sizes = tensor.local_shape or (tensor.shape if not tensor.placements else ())
    offset = tensor.offset or (0,) * len(sizes)
    return tuple((start, start + size) for start, size in zip(offset, sizes, strict=False))


def read_layout(tensors: dict[int, Tensor]) -> Layout:
    """The layout of one tensor as its ranks tell it."""
    owners: dict[Box, set[int]] = {}
    empty: set[int] = set()
    outside: set[int] = set()
    sizes = next(iter(tensors.values())).shape
    for rank, tensor in tensors.items():
        box = box_of(tensor)
        if tensor.placements and tensor.coordinate is None:
            outside.add(rank)
        elif len(box) != len(sizes) or any(low >= high for low, high in box):
            empty.add(rank)
        else:
            owners.setdefault(box, set()).add(rank)
    frozen = {box: frozenset(ranks) for box, ranks in sorted(owners.items())}
    return Layout(sizes, frozen, frozenset(empty), frozenset(outside), _is_tiled(list(frozen), sizes))


def _is_tiled(boxes: list[Box], sizes: tuple[int, ...]) -> bool:
    """No two boxes overlap and none reaches out of the tensor."""
    if any(high > size for box in boxes for (_, high), size in zip(box, sizes, strict=True)):
        return False
    ordered = sorted(boxes)
    for index, box in enumerate(ordered):
        for other in ordered[index + 1 :]:
            if sizes and other[0][0] >= box[0][1]:
                break
            if all(a < d and c < b for (a, b), (c, d) in zip(box, other, strict=True)):
                return False
    return True


def volume(box: Box) -> int:
    """Number of elements."""
    result = 1
    for low, high in box:
        result *= high - low
    return result


def blocks_of(layout: Layout, dims: list[int]) -> list[Box]:
    """Every combination of the blocks along `dims`."""
    return list(itertools.product(*(list(itertools.pairwise(layout.bounds(dim))) for dim in dims)))
