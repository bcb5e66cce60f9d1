"""Two ranks; rank 0 waits in all_reduce until a line on standard input lets rank 1 join it.

Rank 0 says `ready` right before it blocks, and `finished 3.0` when the collective is over.
"""

import os
import sys

import torch
import torch.distributed as dist

rank, world_size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
dist.init_process_group("gloo", init_method=f"file://{os.environ['STORE']}", rank=rank, world_size=world_size)
tensor = torch.tensor(float(rank + 1))
dist.barrier()
print("ready", flush=True)
if rank == 1:
    sys.stdin.readline()
dist.all_reduce(tensor)
print("finished", tensor.item(), flush=True)
dist.barrier()
dist.destroy_process_group()
