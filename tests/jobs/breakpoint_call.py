"""Trains STEPS iterations and calls distdbg.breakpoint() in those that BREAK names, such as 2,5."""

import os

import torch
import torch.distributed as dist
from torch import nn

import distdbg


def train(model: nn.Module, batch: torch.Tensor) -> torch.Tensor:
    """One iteration's loss."""
    loss = model(batch).square().mean()
    loss.backward()
    return loss


def main() -> None:
    """Train, and stop where told to."""
    dist.init_process_group("gloo")
    stops = {int(number) for number in os.environ["BREAK"].split(",")}
    torch.manual_seed(0)
    model = nn.parallel.DistributedDataParallel(nn.Linear(4, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for step in range(int(os.environ["STEPS"])):
        if step in stops:
            distdbg.breakpoint()  # @bp call
        loss = train(model, torch.ones(2, 4))
        optimizer.step()
        optimizer.zero_grad()
        if dist.get_rank() == 0:
            print(f"step {step} loss {loss.item():.6f}", flush=True)
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
