"""Statistics of a tensor's elements in small pieces: exact in float64, and never a copy of the tensor."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch

from distdbg.probes.device import iterate_on_host, quiet
from distdbg.schema.tensor import Stats

CHUNK = 1 << 18
"""Elements per piece: 2 MB as float64, which stays in the cache."""


def compute_stats(local: torch.Tensor, *, live: bool = False) -> Stats:
    """Count, mean, population standard deviation, min, max (over finite values) and numbers of NaN, Inf and zero.

    Complex elements count by their absolute value. Needs a strided tensor of a dtype that torch converts to float64;
    raises RefusedError when a live read of a busy GPU takes too long.
    """
    with quiet():
        return _reduce(iterate_on_host(local, CHUNK, live=live))


def _reduce(chunks: Iterable[torch.Tensor]) -> Stats:
    count = num_finite = num_nan = num_inf = num_zero = 0
    mean = squares = 0.0
    low, high = math.inf, -math.inf
    for chunk in chunks:
        values = _to_float64(chunk)
        count += values.numel()
        total = values.sum().item()
        if not math.isfinite(total):
            num_nan += int(values.isnan().sum())
            num_inf += int(values.isinf().sum())
            values = values[values.isfinite()]
            if values.numel() == 0:
                continue
            total = values.sum().item()
        size = values.numel()
        # Not total / size: a sum of float64 values may overflow where their mean does not.
        center = total / size if math.isfinite(total) else (values / size).sum().item()
        least, most = values.aminmax()
        low, high = min(low, least.item()), max(high, most.item())
        num_zero += size - int(values.count_nonzero())
        values = values - center
        # Chan's merge of two sets' means and squared deviations: no cancellation, whatever the mean is.
        delta = center - mean
        num_finite += size
        mean += delta * size / num_finite
        squares += torch.dot(values, values).item() + delta * delta * size * (num_finite - size) / num_finite
    if num_finite == 0:
        return Stats(count=count, mean=None, std=None, min=None, max=None, num_nan=num_nan, num_inf=num_inf, num_zero=0)
    return Stats(
        count=count, mean=mean, std=math.sqrt(squares / num_finite), min=low, max=high,
        num_nan=num_nan, num_inf=num_inf, num_zero=num_zero,
    )  # fmt: skip


def _to_float64(chunk: torch.Tensor) -> torch.Tensor:
    if chunk.is_complex():
        # complex32 has no abs on the CPU
        chunk = (chunk.to(torch.complex64) if chunk.dtype == torch.complex32 else chunk).abs()
    return chunk.reshape(-1).to(torch.float64)
