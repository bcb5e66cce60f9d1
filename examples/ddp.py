"""A small multi-layer perceptron under DistributedDataParallel.

    torchrun --nproc-per-node 2 ddp.py         (on CPU: GLOO_SOCKET_IFNAME=lo OMP_NUM_THREADS=1)

It reads from the environment:

    STEPS=100      iterations; 0 is endless (the default)
    STEP_SLEEP=0.1 seconds to wait after each
    EVERY=10       print every so many iterations
    LOSSES=path    write each iteration's loss, bit by bit, to path.RANK
"""

from __future__ import annotations

import contextlib
import itertools
import os
import time

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn
from torch.nn.parallel import DistributedDataParallel

FEATURES, HIDDEN, CLASSES, BATCH = 13, 37, 5, 7


class Net(nn.Module):
    """Two hidden layers."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(FEATURES, HIDDEN)
        self.hidden = nn.Linear(HIDDEN, HIDDEN)
        self.last = nn.Linear(HIDDEN, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.first(x))
        x = F.relu(self.hidden(x))
        return self.last(x)


def make_batch(step: int, rank: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Synthetic points, another batch on each rank; the class is a function of the point."""
    generator = torch.Generator().manual_seed(1000 * step + rank)
    points = torch.randn(BATCH, FEATURES, generator=generator)
    return points, points[:, :CLASSES].argmax(dim=1)


def main() -> None:
    """Train."""
    steps, pause = int(os.environ.get("STEPS", "0")), float(os.environ.get("STEP_SLEEP", "0"))
    every, losses = int(os.environ.get("EVERY", "10")), os.environ.get("LOSSES")

    dist.init_process_group("gloo")
    rank, world = dist.get_rank(), dist.get_world_size()
    torch.manual_seed(0)
    model = DistributedDataParallel(Net())
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    if rank == 0:
        print(f"Net on {world} ranks, pid {os.getpid()}", flush=True)

    with contextlib.ExitStack() as stack:
        record = stack.enter_context(open(f"{losses}.{rank}", "w")) if losses else None
        for step in range(steps) if steps else itertools.count():
            points, classes = make_batch(step, rank)
            loss = F.cross_entropy(model(points), classes)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()

            if record:
                print(step, loss.item().hex(), file=record, flush=True)
            if rank == 0 and step % every == 0:
                print(f"step {step} loss {loss.item()!r}", flush=True)
            time.sleep(pause)

    dist.destroy_process_group()


if __name__ == "__main__":
    main()
