from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest
import torch
from torch.distributed.tensor._utils import _compute_local_shape_and_global_offset
from torch.distributed.tensor.placement_types import Partial, Placement, Replicate, Shard, _StridedShard

from distdbg.probes import layout

AXES: list[tuple[Placement, ...]] = [
    (Shard(0), Shard(0)),
    (Shard(0), Replicate()),
    (Partial(), Shard(0)),
    (_StridedShard(0, split_factor=2), Shard(0)),
    (_StridedShard(0, split_factor=3), Shard(0)),
    (Shard(0), _StridedShard(0, split_factor=2)),
]


def split_as_torch(
    size: int, mesh_shape: Sequence[int], at: Sequence[int], placements: Sequence[Placement]
) -> list[int]:
    """Global indices of the shard, cut by torch's own code from a tensor of indices."""
    indices = torch.arange(size)
    for count, index, placement in zip(mesh_shape, at, placements, strict=True):
        if isinstance(placement, (Shard, _StridedShard)):
            indices = placement._split_tensor(indices, count, with_padding=False)[0][index]
    return indices.tolist()


@pytest.mark.parametrize("placements", AXES, ids=str)
@pytest.mark.parametrize("mesh_shape", [(2, 2), (3, 2), (2, 4)])
def test_runs_are_what_torch_cuts(placements: tuple[Placement, ...], mesh_shape: tuple[int, int]) -> None:
    texts = [str(placement) for placement in placements]
    for size, coordinate in itertools.product(range(20), itertools.product(*map(range, mesh_shape))):
        (runs,) = layout.compute_runs((size,), mesh_shape, coordinate, texts)
        held = [index for run in runs for index in range(run.start, run.start + run.length)]
        assert held == split_as_torch(size, mesh_shape, coordinate, placements)
        assert [run.local for run in runs] == list(itertools.accumulate([run.length for run in runs], initial=0))[:-1]


@pytest.mark.parametrize("placements", AXES, ids=str)
def test_shape_and_offset_are_torchs(placements: tuple[Placement, ...]) -> None:
    for size, coordinate in itertools.product(range(1, 20), itertools.product(range(3), range(2))):
        runs = layout.compute_runs((size, 5), (3, 2), coordinate, [str(placement) for placement in placements])
        expected = _compute_local_shape_and_global_offset((size, 5), (3, 2), list(coordinate), placements)
        assert (layout.shape_of(runs), layout.offset_of(runs, (size, 5))) == expected


def test_right_to_left_is_what_fsdp2_cuts_of_a_tp_shard() -> None:
    """9 rows on tp=2 and then dp=4: torch's left-to-right reading gives the last row to the wrong tp rank."""
    for size, (dp, tp) in itertools.product(range(1, 20), itertools.product(range(4), range(2))):
        (runs,) = layout.compute_runs_right_to_left((size,), (4, 2), (dp, tp), ["_S(0, 2)", "S(0)"])
        shards = torch.arange(size).chunk(2)
        pieces = shards[tp].chunk(4) if tp < len(shards) else ()
        expected = pieces[dp].tolist() if dp < len(pieces) else []
        assert [i for run in runs for i in range(run.start, run.start + run.length)] == expected


def test_both_directions_agree_where_sizes_divide() -> None:
    for dp, tp in itertools.product(range(2), range(2)):
        arguments = ((16, 3), (2, 2), (dp, tp), ["_S(0, 2)", "S(0)"])
        assert layout.compute_runs(*arguments) == layout.compute_runs_right_to_left(*arguments)


def test_intersect_cuts_each_run() -> None:
    runs = (layout.Run(2, 0, 3), layout.Run(10, 3, 2))
    assert layout.intersect(runs, 4, 11) == (layout.Run(4, 2, 1), layout.Run(10, 3, 1))
    assert layout.intersect(runs, 5, 10) == ()


@pytest.mark.parametrize("shape", [(), (7,), (3, 4), (2, 3, 4), (4, 1, 3)])
def test_flat_range_is_covered_once_and_in_order(shape: tuple[int, ...]) -> None:
    total = torch.arange(max(1, torch.Size(shape).numel())).reshape(shape)
    for start, stop in itertools.combinations_with_replacement(range(total.numel() + 1), 2):
        seen: list[int] = []
        for at, sizes in layout.split_flat_range(shape, start, stop):
            seen += total[tuple(slice(a, a + n) for a, n in zip(at, sizes, strict=True))].flatten().tolist()
        assert seen == list(range(start, stop))
