from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributed._functional_collectives import AsyncCollectiveTensor
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import DTensor
from torch.distributed.tensor.placement_types import Partial, Placement, Replicate, Shard, _StridedShard

from distdbg.errors import RefusedError, UsageError
from distdbg.probes.parameter import Held
from distdbg.probes.tensor import describe
from distdbg.probes.values import read_values
from distdbg.schema.tensor import Piece, Tensor

BeRank = Callable[[int, int], None]
LAYOUTS: list[tuple[tuple[int, ...], tuple[Placement, ...]]] = [
    ((4,), (Shard(0),)),
    ((4,), (Shard(1),)),
    ((2, 2), (Shard(0), Shard(1))),
    ((2, 2), (Shard(0), Shard(0))),
    ((2, 2), (Replicate(), Shard(1))),
    ((2, 2), (_StridedShard(0, split_factor=2), Shard(0))),
    ((2, 2), (_StridedShard(0, split_factor=2), Replicate())),
]


def cut(full: torch.Tensor, mesh: DeviceMesh, placements: tuple[Placement, ...]) -> DTensor:
    """The DTensor that this rank would hold, cut by torch's own splitting, without communication."""
    local = full
    coordinate = mesh.get_coordinate()
    assert coordinate is not None
    for axis, placement in enumerate(placements):
        if isinstance(placement, (Shard, _StridedShard)):
            parts, _ = placement._split_tensor(local, mesh.size(axis), with_padding=False)
            local = parts[coordinate[axis]]
    return DTensor.from_local(local.clone(), mesh, placements, run_check=False, shape=full.shape, stride=full.stride())


def fill(whole: torch.Tensor, pieces: tuple[Piece, ...]) -> None:
    for piece in pieces:
        where = tuple(slice(at, at + n) for at, n in zip(piece.start, piece.shape, strict=True))
        whole[where] = torch.tensor(piece.values, dtype=whole.dtype).reshape(piece.shape)


@pytest.mark.parametrize(("mesh_shape", "placements"), LAYOUTS, ids=str)
@pytest.mark.parametrize("shape", [(8, 4), (7, 5), (3, 6), (1, 1)])
def test_every_rank_of_a_layout(
    be_rank: BeRank, mesh_shape: tuple[int, ...], placements: tuple[Placement, ...], shape: tuple[int, int]
) -> None:
    """Uneven, empty and strided shards: all ranks' pieces together are the tensor, within any box."""
    full = torch.arange(float(shape[0] * shape[1])).reshape(shape)
    whole = torch.full_like(full, -1)
    boxed = torch.full_like(full, -1)
    for rank in range(4):
        be_rank(rank, 4)
        mesh = init_device_mesh("cpu", mesh_shape, mesh_dim_names=("dp", "tp")[: len(mesh_shape)])
        tensor = cut(full, mesh, placements)
        held = Held("w", tensor)
        described = describe(held, with_stats=True)
        assert described.shape == shape
        assert described.local_shape == tuple(tensor._local_tensor.shape)
        assert described.placements == tuple(str(placement) for placement in placements)
        assert described.coordinate == tuple(mesh.get_coordinate() or ())
        assert described.stats is not None
        assert described.stats.count == tensor._local_tensor.numel()
        assert described.local_bytes == 4 * tensor._local_tensor.numel()
        assert described.note == ""
        if tensor._local_tensor.numel():
            assert full[described.offset] == tensor._local_tensor.flatten()[0]
        fill(whole, read_values(held, (0, 0), shape, limit=1000))
        fill(boxed, read_values(held, (1, 1), (4, 3), limit=1000))
    assert torch.equal(whole, full)
    expected = torch.full_like(full, -1)
    expected[1:4, 1:3] = full[1:4, 1:3]
    assert torch.equal(boxed, expected)


def test_strided_shard_that_is_not_contiguous_comes_in_pieces(be_rank: BeRank) -> None:
    be_rank(0, 4)
    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("dp", "tp"))
    tensor = cut(torch.arange(8.0), mesh, (_StridedShard(0, split_factor=2), Replicate()))
    pieces = read_values(Held("w", tensor), (0,), (8,), limit=8)
    assert [(piece.start, piece.values) for piece in pieces] == [((0,), (0.0, 1.0)), ((4,), (4.0, 5.0))]


def test_shard_that_fsdp2_cut_against_its_placements(be_rank: BeRank) -> None:
    """9 rows, tp=2 then dp=4: for torch the last row is tp rank 0's; FSDP2 keeps it at tp rank 1."""
    full = torch.arange(9.0)
    whole = torch.full((9,), -1.0)
    for rank in range(8):
        be_rank(rank, 8)
        mesh = init_device_mesh("cpu", (4, 2), mesh_dim_names=("dp", "tp"))
        dp, tp = divmod(rank, 2)
        parts = [*full.chunk(2)[tp].chunk(4), full[:0]]
        local = parts[min(dp, len(parts) - 1)]
        placements = (_StridedShard(0, split_factor=2), Shard(0))
        tensor = DTensor.from_local(local, mesh, placements, run_check=False, shape=(9,), stride=(1,))
        fill(whole, read_values(Held("w", tensor), (0,), (9,), limit=9))
    assert torch.equal(whole, full)


def test_partial_is_this_ranks_addend(be_rank: BeRank) -> None:
    be_rank(1, 2)
    mesh = init_device_mesh("cpu", (2,), mesh_dim_names=("tp",))
    tensor = DTensor.from_local(torch.tensor([1.0, 2.0]), mesh, (Partial(),), run_check=False)
    described = describe(Held("x", tensor))
    assert (described.placements, described.local_shape, described.offset) == (("P(sum)",), (2,), (0,))
    assert read_values(Held("x", tensor), (0,), (1,), limit=5)[0].values == (1.0,)


def test_rank_outside_the_mesh(be_rank: BeRank) -> None:
    be_rank(3, 4)
    mesh = DeviceMesh("cpu", [0, 1])
    tensor = DTensor.from_local(torch.empty(0), mesh, (Shard(0),), run_check=False, shape=(8,), stride=(1,))
    described = describe(Held("w", tensor), with_stats=True)
    assert (described.coordinate, described.shape, described.local_bytes) == (None, (8,), 0)
    assert (described.axes, described.mesh_ranks) == (("dim_0",), (0, 1))
    assert read_values(Held("w", tensor), (0,), (8,), limit=8) == ()


def unreadable() -> dict[str, torch.Tensor]:
    freed = torch.ones(4)
    freed.untyped_storage().resize_(0)
    with FakeTensorMode():
        fake = torch.ones(4)
    return {
        "FakeTensor: it has no elements": fake,
        "on the meta device: it has no elements": torch.ones(4, device="meta"),
        "quantized: elements are not read": torch.quantize_per_tensor(torch.ones(4), 0.1, 0, torch.qint8),
        "sparse_coo layout: elements are not read": torch.ones(4).to_sparse(),
        "its storage is freed now": freed,
        "its collective is still in flight": AsyncCollectiveTensor(torch.ones(4)),
    }


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize("reason", list(unreadable()))
def test_described_but_not_read(reason: str) -> None:
    held = Held("x", unreadable()[reason])
    described = describe(held, with_stats=True)
    assert (described.note, described.shape) == (reason, (4,))
    assert (described.stats, described.fingerprint) == (None, None)
    with pytest.raises(RefusedError, match=reason.split(":")[0]):
        read_values(held, (0,), (4,), limit=4)


def test_uninitialized_parameter_has_no_shape() -> None:
    described = describe(Held("w", nn.LazyLinear(3).weight), with_stats=True)
    assert (described.shape, described.note) == ((), "uninitialized: the module has not run yet")


def test_plain_tensor() -> None:
    weight = nn.Parameter(torch.ones(2, 3, dtype=torch.bfloat16))
    weight.grad = torch.zeros(2, 3, dtype=torch.bfloat16)
    expected = Tensor(
        fqn="w", kind="Tensor", shape=(2, 3), dtype="bfloat16", device="cpu", local_shape=(2, 3), offset=(0, 0),
        local_bytes=12, role="value", requires_grad=True, has_grad=True,
    )  # fmt: skip
    assert describe(Held("w", weight)) == expected


@pytest.mark.parametrize(
    ("tensor", "values"),
    [
        (torch.tensor([float("nan"), float("inf"), -float("inf"), 1.5]), ("nan", "inf", "-inf", 1.5)),
        (torch.tensor([True, False]), (True, False)),
        (torch.tensor([2**62, -1]), (2**62, -1)),
        (torch.tensor([1.5, -2.0]).to(torch.float8_e4m3fn), (1.5, -2.0)),
        (torch.tensor([1.5, -2.0], dtype=torch.bfloat16), (1.5, -2.0)),
        (torch.tensor([1 + 2j]), ("(1+2j)",)),
    ],
)
def test_values_of_every_kind_of_number(tensor: torch.Tensor, values: tuple[object, ...]) -> None:
    (piece,) = read_values(Held("x", tensor), (0,), (9,), limit=4)
    assert piece == Piece(start=(0,), shape=(len(values),), values=values)  # type: ignore[arg-type]
    assert [type(value) for value in piece.values] == [type(value) for value in values]


def test_scalar_has_an_empty_index() -> None:
    assert read_values(Held("x", torch.tensor(3)), (), (), limit=1) == (Piece(start=(), shape=(), values=(3,)),)


def test_flat_piece_of_an_original_shape() -> None:
    full = torch.arange(24).reshape(4, 3, 2)
    for first, last in itertools.combinations(range(0, 25, 3), 2):
        whole = torch.full((4, 3, 2), -1)
        held = Held("w", full.flatten()[first:last], shape=(4, 3, 2), flat=(first, last - first))
        fill(whole, read_values(held, (0, 1, 0), (3, 3, 2), limit=24))
        expected = torch.where((full >= first) & (full < last), full, -1)
        expected[:, :1], expected[3:] = -1, -1
        assert torch.equal(whole, expected)


def test_wrong_boxes_are_refused() -> None:
    held = Held("w", torch.zeros(10, 10))
    with pytest.raises(UsageError, match="has 2 dims"):
        read_values(held, (0,), (1,), limit=10)
    with pytest.raises(UsageError, match="limit of 10"):
        read_values(held, (0, 0), (4, 4), limit=10)
    with pytest.raises(UsageError, match="count from 0"):
        read_values(held, (-1, 0), (4, 4), limit=100)
    assert read_values(held, (20, 0), (30, 10), limit=10) == ()
