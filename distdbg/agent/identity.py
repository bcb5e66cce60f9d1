"""Who this rank is: what an agent says of itself and its job in reply to Hello."""

from __future__ import annotations

import contextlib
import os
import platform
import socket
import sys

import torch
import torch.distributed as dist
from torch.distributed import distributed_c10d

from distdbg.probes.context import Context
from distdbg.probes.meshes import list_meshes
from distdbg.probes.model import ModelIndex
from distdbg.probes.modules import list_modules
from distdbg.schema.message import ListMeshes, ListModules, Welcome
from distdbg.schema.stop import Stop


def describe_rank(
    model: ModelIndex,
    timeouts_s: dict[str, float],
    *,
    is_prepared: bool,
    iteration: int,
    stop: Stop | None,
    is_eager: bool = False,
) -> Welcome:
    """This rank as of now; reads metadata only."""
    context = Context(model=model)
    modules = list_modules(ListModules(), context).modules
    return Welcome(
        rank=dist.get_rank(),
        world_size=dist.get_world_size(),
        pid=os.getpid(),
        hostname=socket.gethostname(),
        script=os.path.basename(sys.argv[0]) if sys.argv and sys.argv[0] else "",
        backend=_backend(),
        torch_version=str(torch.__version__).split("+")[0],
        python_version=platform.python_version(),
        device=_device(model),
        is_prepared=is_prepared,
        run_id=os.environ.get("TORCHELASTIC_RUN_ID", ""),
        restart=int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")),
        model=modules[0].class_name if modules else "",
        num_modules=len(modules),
        num_params=modules[0].num_params if modules else 0,
        local_params=modules[0].local_params if modules else 0,
        has_optimizer=bool(model.optimizers()),
        meshes=list_meshes(ListMeshes(), context).meshes,
        timeouts_s=timeouts_s,
        iteration=iteration,
        stop=stop,
        is_eager=is_eager,
    )


def is_distributed() -> bool:
    """Whether this process has a default process group now."""
    return dist.is_available() and dist.is_initialized() and bool(distributed_c10d._world.pg_map)


def _backend() -> str:
    """`gloo`, or `cpu:gloo,cuda:nccl` where each device has its own."""
    group = distributed_c10d._get_default_group()
    by_device: dict[str, str] = {}
    for device in group._device_types:
        with contextlib.suppress(RuntimeError):
            by_device[device.type] = group._get_backend(device).name()
    kinds = list(dict.fromkeys(by_device.values()))
    return kinds[0] if len(kinds) == 1 else ",".join(f"{device}:{kind}" for device, kind in sorted(by_device.items()))


def _device(model: ModelIndex) -> str:
    for _, root in model.roots():
        for parameter in root.parameters():
            return str(parameter.device)
    return "cpu"
