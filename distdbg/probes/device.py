"""Bring the elements of a tensor to the host in small pieces, without hanging behind a busy stream."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from distdbg.errors import RefusedError

DEADLINE_S = 2.0
"""How long a live read waits for the device, per piece."""

_POLL_S = 0.0005


@contextmanager
def quiet() -> Iterator[None]:
    """No autograd, and none of this thread's modes (fake tensors, DebugMode) or tensor subclasses see our reads."""
    with torch.no_grad(), torch._C.DisableTorchFunction(), torch._C._DisableTorchDispatch():
        yield


def iterate_chunks(tensor: torch.Tensor, count: int) -> Iterator[torch.Tensor]:
    """Views of at most `count` elements each that together are the tensor in row-major order; copies nothing."""
    numel = tensor.numel()
    if numel == 0:
        return
    if numel <= count:
        yield tensor
    elif tensor.is_contiguous():
        flat = tensor.view(-1)
        for start in range(0, numel, count):
            yield flat[start : start + count]
    else:
        inner = numel // tensor.shape[0]
        if inner > count:
            for index in range(tensor.shape[0]):
                yield from iterate_chunks(tensor[index], count)
        else:
            for start in range(0, tensor.shape[0], count // inner):
                yield tensor.narrow(0, start, min(count // inner, tensor.shape[0] - start))


def iterate_on_host(tensor: torch.Tensor, count: int, *, live: bool) -> Iterator[torch.Tensor]:
    """`iterate_chunks` on the CPU; a CUDA tensor is copied piece by piece.

    `live` is a read from another thread than the parked one: it uses a side stream and a deadline. Raises RefusedError
    when the device does not answer in time, as a collective that waits for another rank keeps it busy.
    """
    for chunk in iterate_chunks(tensor.detach(), count):
        yield chunk if chunk.device.type == "cpu" else copy_to_host(chunk, live=live)


def copy_to_host(chunk: torch.Tensor, *, live: bool) -> torch.Tensor:
    """A CPU copy. Raises RefusedError if `live` and the device does not answer within DEADLINE_S."""
    if chunk.device.type == "cpu" or not (live and chunk.device.type == "cuda"):
        return chunk.cpu()
    with torch.cuda.device(chunk.device):
        side = torch.cuda.Stream()
        host = torch.empty(chunk.shape, dtype=chunk.dtype, pin_memory=True)
        with torch.cuda.stream(side):
            host.copy_(chunk, non_blocking=True)
            done = torch.cuda.Event()
            done.record(side)
        deadline = time.monotonic() + DEADLINE_S
        while not done.query():
            if time.monotonic() > deadline:
                # The copy may still arrive: its target must outlive it, and the caching host allocator sees to that.
                raise RefusedError(
                    "The GPU's stream is busy: a collective waits for another rank, or a kernel runs long. "
                    "Stop this rank first (pause), or read it later."
                )
            time.sleep(_POLL_S)
    return host
