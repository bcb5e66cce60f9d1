from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import Replicate, Shard, distribute_tensor

from distdbg.errors import UnknownName
from distdbg.probes import Context, ModelIndex, run_probe
from distdbg.probes.meshes import describe_meshes
from distdbg.schema.message import ListMeshes, ListModules, ListNames
from distdbg.schema.tensor import Mesh, Module


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.emb = nn.Embedding(10, 4)
        self.block = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
        self.head = nn.Linear(4, 10, bias=False)
        self.head.weight = self.emb.weight


def test_counts_and_bytes_with_a_shared_parameter() -> None:
    def row(fqn: str, class_name: str, depth: int, count: int) -> Module:
        return Module(
            fqn=fqn, class_name=class_name, depth=depth, num_params=count, local_params=count,
            global_bytes=4 * count, local_bytes=4 * count,
        )  # fmt: skip

    net = Net()
    assert run_probe(ListModules(), Context(ModelIndex([net]))).modules == (  # type: ignore[attr-defined]
        row("", "Net", 0, 68),
        row("emb", "Embedding", 1, 40),
        row("block", "Sequential", 1, 28),
        row("block.0", "Linear", 2, 20),
        row("block.1", "BatchNorm1d", 2, 8),
        row("head", "Linear", 1, 40),
    )


def test_pattern_selects_and_a_wrong_one_is_named() -> None:
    net = Net()
    context = Context(ModelIndex([net]))
    assert [m.fqn for m in run_probe(ListModules(pattern="block.*"), context).modules] == ["block.0", "block.1"]  # type: ignore[attr-defined]
    with pytest.raises(UnknownName, match="Nearest: block"):
        run_probe(ListModules(pattern="blok"), context)


def test_local_counts_of_uneven_shards(be_rank: Callable[[int, int], None]) -> None:
    be_rank(3, 4)
    mesh = init_device_mesh("cpu", (4,))
    layer = nn.Linear(4, 7, bias=False)
    layer.weight = nn.Parameter(distribute_tensor(layer.weight, mesh, [Shard(0)], src_data_rank=None))
    (module,) = run_probe(ListModules(), Context(ModelIndex([layer]))).modules  # type: ignore[attr-defined]
    assert (module.num_params, module.local_params, module.global_bytes, module.local_bytes) == (28, 4, 112, 16)


def test_lazy_modules_count_as_empty() -> None:
    net = nn.Sequential(nn.LazyLinear(3), nn.Linear(2, 2))
    modules = run_probe(ListModules(), Context(ModelIndex([net]))).modules  # type: ignore[attr-defined]
    assert [module.num_params for module in modules] == [6, 0, 6]


def test_meshes_once_and_submeshes_last(be_rank: Callable[[int, int], None]) -> None:
    be_rank(2, 6)
    mesh = DeviceMesh("cpu", [[0, 1], [2, 3]], mesh_dim_names=("dp", "tp"))
    same = DeviceMesh("cpu", [[0, 1], [2, 3]], mesh_dim_names=("dp", "tp"))
    outside = DeviceMesh("cpu", [4, 5])
    assert describe_meshes([mesh["tp"], outside, same, mesh["dp"], mesh]) == (
        Mesh(axes=("dp", "tp"), shape=(2, 2), ranks=(0, 1, 2, 3), coordinate=(1, 0), device="cpu"),
        Mesh(axes=("dim_0",), shape=(2,), ranks=(4, 5), coordinate=None, device="cpu"),
        Mesh(axes=("dp",), shape=(2,), ranks=(0, 2), coordinate=(1,), device="cpu"),
        Mesh(axes=("tp",), shape=(2,), ranks=(2, 3), coordinate=(0,), device="cpu"),
    )
    assert run_probe(ListMeshes(), Context(ModelIndex())).meshes[0].axes == ("dp", "tp")  # type: ignore[attr-defined]


def test_names_for_completion(be_rank: Callable[[int, int], None]) -> None:
    be_rank(0, 2)
    mesh = init_device_mesh("cpu", (2,), mesh_dim_names=("cp",))
    net = Net()
    net.emb.weight = nn.Parameter(distribute_tensor(torch.ones(10, 4), mesh, [Replicate()], src_data_rank=None))
    names = run_probe(ListNames(), Context(ModelIndex([net])))
    assert names.modules == ("emb", "block", "block.0", "block.1", "head")  # type: ignore[attr-defined]
    assert names.tensors[:3] == ("emb.weight", "block.0.weight", "block.0.bias")  # type: ignore[attr-defined]
    assert "block.1.running_mean" in names.tensors  # type: ignore[attr-defined]
    assert "cp" in names.axes  # type: ignore[attr-defined]
