"""A small transformer under tensor parallelism and FSDP2 on a two-dimensional mesh, dp x tp.

    torchrun --nproc-per-node 4 transformer_2d.py         (on CPU: GLOO_SOCKET_IFNAME=lo OMP_NUM_THREADS=1)

    STEPS=100      iterations; 0 is endless (the default)
    STEP_SLEEP=0.1 seconds to wait after each
    EVERY=10       print every so many iterations
    LOSSES=path    write each iteration's loss, bit by bit, to path.RANK

Sizes are odd on purpose: 101 words over 2 ranks give one 51 rows and the other 50.
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
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

VOCAB, DIM, HEADS, HIDDEN, LAYERS = 101, 36, 4, 98, 2
BATCH, LENGTH = 2, 16


class Attention(nn.Module):
    """Causal self-attention; the number of heads follows from the projections' width, which tp divides."""

    def __init__(self) -> None:
        super().__init__()
        self.wq, self.wk, self.wv, self.wo = (nn.Linear(DIM, DIM, bias=False) for _ in range(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = (self.split_heads(w) for w in (self.wq(x), self.wk(x), self.wv(x)))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.wo(y.transpose(1, 2).flatten(2))

    def split_heads(self, x: torch.Tensor) -> torch.Tensor:
        return x.unflatten(-1, (-1, DIM // HEADS)).transpose(1, 2)


class FeedForward(nn.Module):
    """The gated kind: w2(silu(w1 x) * w3 x)."""

    def __init__(self) -> None:
        super().__init__()
        self.w1 = nn.Linear(DIM, HIDDEN, bias=False)
        self.w2 = nn.Linear(HIDDEN, DIM, bias=False)
        self.w3 = nn.Linear(DIM, HIDDEN, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.w2(F.silu(self.w1(x)) * self.w3(x))


class Block(nn.Module):
    """One layer."""

    def __init__(self) -> None:
        super().__init__()
        self.n1 = nn.RMSNorm(DIM)
        self.attention = Attention()
        self.n2 = nn.RMSNorm(DIM)
        self.feed_forward = FeedForward()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attention(self.n1(x))
        return x + self.feed_forward(self.n2(x))


class Net(nn.Module):
    """The whole model: words in, logits of the next word out."""

    def __init__(self) -> None:
        super().__init__()
        self.emb = nn.Embedding(VOCAB, DIM)
        self.layer = nn.ModuleList(Block() for _ in range(LAYERS))
        self.norm = nn.RMSNorm(DIM)
        self.output = nn.Linear(DIM, VOCAB, bias=False)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.emb(tokens)
        for block in self.layer:
            x = block(x)
        return self.output(self.norm(x))


PLAN = {
    "attention.wq": ColwiseParallel(),
    "attention.wk": ColwiseParallel(),
    "attention.wv": ColwiseParallel(),
    "attention.wo": RowwiseParallel(),
    "feed_forward.w1": ColwiseParallel(),
    "feed_forward.w2": RowwiseParallel(),
    "feed_forward.w3": ColwiseParallel(),
}


def build_model(mesh: DeviceMesh) -> Net:
    """The same weights on every rank, then each rank's part of them."""
    torch.manual_seed(0)
    model = Net().to(mesh.device_type)
    for block in model.layer:
        parallelize_module(block, mesh["tp"], PLAN)
        fully_shard(block, mesh=mesh["dp"])
    fully_shard(model, mesh=mesh["dp"])
    return model


def make_batch(step: int, shard: int, device: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Synthetic text: each word follows from the one before. The same on all tp ranks, another on each dp rank."""
    generator = torch.Generator().manual_seed(1000 * step + shard)
    first = torch.randint(VOCAB, (BATCH, 1), generator=generator)
    text = (first + 7 * torch.arange(LENGTH + 1)) % VOCAB
    return text[:, :-1].to(device), text[:, 1:].to(device)


def main() -> None:
    """Train."""
    steps, pause = int(os.environ.get("STEPS", "0")), float(os.environ.get("STEP_SLEEP", "0"))
    every, losses = int(os.environ.get("EVERY", "10")), os.environ.get("LOSSES")
    world, local_rank = int(os.environ["WORLD_SIZE"]), int(os.environ["LOCAL_RANK"])
    device = "cuda" if torch.cuda.device_count() > local_rank and dist.is_nccl_available() else "cpu"
    if device == "cuda":
        torch.cuda.set_device(local_rank)

    tp = 2 if world % 2 == 0 else 1
    mesh = init_device_mesh(device, (world // tp, tp), mesh_dim_names=("dp", "tp"))
    rank, shard = dist.get_rank(), mesh.get_local_rank("dp")
    model = build_model(mesh)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    if rank == 0:
        print(f"Net on {world} ranks, mesh dp={world // tp} x tp={tp}, pid {os.getpid()}", flush=True)

    with contextlib.ExitStack() as stack:
        record = stack.enter_context(open(f"{losses}.{rank}", "w")) if losses else None
        for step in range(steps) if steps else itertools.count():
            tokens, targets = make_batch(step, shard, device)
            logits = model(tokens)
            loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten())
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()

            if record:
                print(step, float(loss.item()).hex(), file=record, flush=True)
            if rank == 0 and step % every == 0:
                print(f"step {step} loss {loss.item()!r}", flush=True)
            time.sleep(pause)

    dist.destroy_process_group()


if __name__ == "__main__":
    main()
