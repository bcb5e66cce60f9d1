from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard

from distdbg.probes import Context, ModelIndex
from distdbg.probes.resolve import resolve, resolve_one
from distdbg.probes.tensor import describe

BeRank = Callable[[int, int], None]
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")


def test_fsdp2_reports_the_shard_while_gathered(be_rank: BeRank) -> None:
    be_rank(1, 4)
    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("replicate", "shard"))
    layer = nn.Linear(6, 8)
    fully_shard(layer, mesh=mesh)
    context = Context(ModelIndex([layer]))
    before = describe(resolve_one("weight", context))
    layer.unshard()
    assert layer.weight.shape == (8, 6)
    after = describe(resolve_one("weight", context))
    assert (before.note, before.placements, before.local_shape, before.offset) == ("", ("R", "S(0)"), (4, 6), (4, 0))
    assert after.note == "unsharded now (all-gathered on shard)"
    assert (after.placements, after.local_shape) == (before.placements, before.local_shape)
    layer.reshard()
    assert describe(resolve_one("weight", context)) == before


def test_fsdp2_gradient_that_is_not_reduced_says_so(be_rank: BeRank) -> None:
    be_rank(0, 2)
    layer = nn.Linear(6, 8)
    fully_shard(layer, mesh=init_device_mesh("cpu", (2,), mesh_dim_names=("dp",)))
    layer.set_requires_gradient_sync(False)
    layer(torch.ones(1, 6)).sum().backward()
    context = Context(ModelIndex([layer]))
    gradient = describe(resolve_one("weight.grad", context))
    assert (gradient.kind, gradient.shape) == ("Tensor", (8, 6))
    assert gradient.note == "unsharded gradient, not yet reduced on dp"
    assert describe(resolve_one("weight", context)).has_grad


def test_fsdp2_shared_parameter_is_known_under_both_names(be_rank: BeRank) -> None:
    be_rank(0, 2)
    model = nn.Sequential(OrderedDict(emb=nn.Embedding(8, 4), head=nn.Linear(4, 8, bias=False)))
    model.head.weight = model.emb.weight
    fully_shard(model, mesh=init_device_mesh("cpu", (2,)))
    first, second = resolve("*.weight", Context(ModelIndex([model])))
    assert (first.fqn, second.fqn) == ("emb.weight", "head.weight")
    assert first.identity is second.identity


@pytest.mark.parametrize(
    ("use_orig_params", "cuts"),
    [
        (False, [((0, 14), (0, 0)), ((14, 14), (0, 0)), ((28, 7), (0, 7))]),
        # torch aligns each original parameter to 16 bytes: the bias begins at element 36 of 45
        (True, [((0, 15), (0, 0)), ((15, 15), (0, 0)), ((30, 5), (0, 7))]),
    ],
)
def test_fsdp1_parameters_before_the_first_forward(
    be_rank: BeRank, use_orig_params: bool, cuts: list[tuple[tuple[int, int], ...]]
) -> None:
    """35 + 7 elements in 3 flat shards; (first element, count) of weight and bias on each rank."""
    for rank, expected in enumerate(cuts):
        be_rank(rank, 3)
        model = FullyShardedDataParallel(
            nn.Linear(5, 7), device_id=torch.device("cpu"), use_orig_params=use_orig_params
        )
        held = resolve("Linear", Context(ModelIndex([model])))
        tensors = [describe(item, with_stats=True) for item in held]
        assert [(t.fqn, t.shape) for t in tensors] == [("weight", (7, 5)), ("bias", (7,))]
        assert tuple((t.offset[0], t.local_shape[0]) for t in tensors) == expected
        for tensor, total in zip(tensors, (35, 7), strict=True):
            first, count = tensor.offset[0], tensor.local_shape[0]
            part = f"{first}:{first + count}" if count else "none"
            assert tensor.note == f"FSDP1 flat shard: elements {part} of {total}"
            assert tensor.stats is not None
            assert tensor.stats.count == count
            assert (tensor.kind, tensor.requires_grad, tensor.has_grad) == ("Tensor", True, False)
