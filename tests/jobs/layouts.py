"""Every way in which a tensor may lie on a mesh, held by one module: 4 ranks, mesh dp=2 x tp=2, and an epoch of it."""

from __future__ import annotations

import itertools
import os
import time

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import DTensor, Partial, Placement, Replicate, Shard, distribute_tensor
from torch.distributed.tensor.placement_types import _StridedShard


def numbered(*shape: int) -> torch.Tensor:
    """0, 1, 2, ... in this shape."""
    return torch.arange(torch.Size(shape).numel(), dtype=torch.float32).view(shape)


class Layouts(nn.Module):
    """Each tensor counts its elements, so that a value tells its global index."""

    def __init__(self, mesh: DeviceMesh, line: DeviceMesh, half: DeviceMesh) -> None:
        super().__init__()

        def keep(name: str, on: DeviceMesh, shape: tuple[int, ...], *placements: Placement) -> None:
            setattr(self, name, nn.Parameter(distribute_tensor(numbered(*shape), on, placements)))

        keep("cube", mesh, (4, 3, 6), Shard(0), Shard(2))
        keep("box", mesh, (4, 6, 5), Shard(1), Shard(1))
        keep("uneven", line, (7, 3), Shard(0))
        keep("empty", line, (2, 3), Shard(0))
        keep("same", mesh, (4, 4), Replicate(), Replicate())
        keep("rows", mesh, (6, 4), Shard(0), Replicate())
        keep("strided", mesh, (8, 3), _StridedShard(0, split_factor=2), Shard(0))
        keep("woven", mesh, (8, 3), _StridedShard(0, split_factor=2), Replicate())
        keep("deep", mesh, (4, 2, 4, 2), Shard(1), Shard(3))
        keep("scalar", mesh, (), Replicate(), Replicate())
        self.register_buffer(
            "term", DTensor.from_local(torch.full((2, 2), float(dist.get_rank())), line, [Partial()], run_check=False)
        )
        self.register_buffer("some", DTensor.from_local(numbered(2, 3), half, [Shard(0)], run_check=False))
        self.register_buffer("alone", torch.full((3,), float(dist.get_rank())))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + 1


def main() -> None:
    """Call the module, for ever."""
    dist.init_process_group("gloo")
    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("dp", "tp"))
    line = init_device_mesh("cpu", (4,), mesh_dim_names=("all",))
    half = DeviceMesh("cpu", [0, 2], mesh_dim_names=("half",))
    model = Layouts(mesh, line, half)
    for step in itertools.count():
        model(torch.zeros(2))
        if dist.get_rank() == 0:
            print(f"step {step}", flush=True)
        time.sleep(float(os.environ.get("STEP_SLEEP", "0.1")))


if __name__ == "__main__":
    main()
