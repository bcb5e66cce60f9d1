"""One small model under each wrapper that people use.

MODE=ddp|fsdp1|fsdp2|checkpoint|compile|pipeline|plain   STEPS=0 is endless   STEP_SLEEP=s   LOSSES=path
WORKERS=n      feed it through a DataLoader with n forked workers
"""

import itertools
import os
import time
import warnings

import torch
import torch.distributed as dist
from torch import nn
from torch.utils.checkpoint import checkpoint

MODE = os.environ.get("MODE", "ddp")


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(16, 32)
        self.second = nn.Linear(32, 16)
        self.unused = nn.Linear(4, 4)

    def forward(self, x):
        return x + self.second(torch.relu(self.first(x)))  # @bp forward


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList(Block() for _ in range(2))
        self.shared = nn.Linear(16, 16)
        self.head = nn.Linear(16, 1)

    def forward(self, x):
        for block in self.blocks:
            x = checkpoint(block, x, use_reentrant=False) if MODE == "checkpoint" else block(x)
        x = self.shared(self.shared(x))  # called twice per step
        return self.head(x)


def wrap(model):
    if MODE == "ddp":
        return nn.parallel.DistributedDataParallel(model, find_unused_parameters=True)
    if MODE == "fsdp1":
        from torch.distributed.fsdp import FullyShardedDataParallel

        warnings.simplefilter("ignore")
        for index, block in enumerate(model.blocks):
            model.blocks[index] = FullyShardedDataParallel(block, use_orig_params=True, device_id=torch.device("cpu"))
        return FullyShardedDataParallel(model, use_orig_params=True, device_id=torch.device("cpu"))
    if MODE == "fsdp2":
        from torch.distributed.fsdp import fully_shard

        for block in model.blocks:
            fully_shard(block)
        return fully_shard(model)
    if MODE == "compile":
        parallel = nn.parallel.DistributedDataParallel(model, find_unused_parameters=True)
        return torch.compile(parallel, backend="aot_eager")
    return model


def batches(rank):
    if workers := int(os.environ.get("WORKERS", "0")):
        from torch.utils.data import DataLoader, TensorDataset

        data = torch.randn(64, 16, generator=torch.Generator().manual_seed(rank))
        while True:
            for (batch,) in DataLoader(TensorDataset(data), batch_size=8, num_workers=workers):
                yield batch
    generator = torch.Generator().manual_seed(rank)
    while True:
        yield torch.randn(8, 16, generator=generator)


def main():
    dist.init_process_group("gloo")
    rank = dist.get_rank()
    torch.manual_seed(0)
    model = wrap(Net())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    losses = open(f"{os.environ['LOSSES']}.{rank}", "w") if "LOSSES" in os.environ else None  # noqa: SIM115
    stop = int(os.environ.get("STEPS", "0"))
    for step, batch in zip(itertools.count() if stop == 0 else range(stop), batches(rank), strict=False):
        loss = model(batch).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if losses:
            print(loss.item().hex(), file=losses, flush=True)
        if rank == 0:
            print(f"step {step} loss {loss.item():.6f}", flush=True)
        time.sleep(float(os.environ.get("STEP_SLEEP", "0")))
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
