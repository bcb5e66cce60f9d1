"""Rank 1 comes late to the first all_reduce: not before the file GO is there. All the others wait in it.

Under torchrun, or as `late.py N`: N ranks through mp.spawn, whose environment tells nobody who they are.
"""

import itertools
import os
import sys
import time

import torch
import torch.distributed as dist


def wait_for(path: str) -> None:
    """Return when the file is there."""
    while not os.path.exists(path):
        time.sleep(0.02)  # @bp late


def main() -> None:
    """All-reduce for ever."""
    dist.init_process_group("gloo")
    rank = dist.get_rank()
    total = torch.ones(1)
    dist.all_reduce(total)
    print(f"rank {rank} pid {os.getpid()}", flush=True)
    for step in itertools.count():
        if rank == 1:
            wait_for(os.environ["GO"])
        dist.all_reduce(total)  # @bp all_reduce
        if rank == 0:
            print(f"step {step}", flush=True)
        time.sleep(0.02)


def spawned(rank: int, world_size: int, port: int) -> None:
    """A rank that sets its environment itself, as mp.spawn examples do."""
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(world_size)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    main()


if __name__ == "__main__":
    if "RANK" in os.environ:
        main()
    else:
        import socket

        import torch.multiprocessing as mp

        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            number = free.getsockname()[1]
        mp.spawn(spawned, (int(sys.argv[1]), number), nprocs=int(sys.argv[1]))
