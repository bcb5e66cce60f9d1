"""One rank alone of a job that need not exist: by_hand.py [UID]; the ranks of RANK and WORLD_SIZE, without the others.

torch's own fake backend finishes every collective at once. With UID it becomes that user's process first.
"""

import itertools
import os
import sys
import time

import torch
import torch.distributed as dist
from torch.testing._internal.distributed.fake_pg import FakeStore


def main() -> None:
    """Step for ever."""
    if len(sys.argv) > 1:
        os.setgroups([])
        os.setresgid(*[int(sys.argv[1])] * 3)
        os.setresuid(*[int(sys.argv[1])] * 3)
    rank, world_size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    dist.init_process_group("fake", store=FakeStore(), rank=rank, world_size=world_size)
    model = torch.nn.Linear(4, 1)
    for step in itertools.count():
        model(torch.ones(2, 4))
        print(f"rank {rank} step {step}", flush=True)
        time.sleep(0.05)


if __name__ == "__main__":
    main()
