from __future__ import annotations

import math
import subprocess
import sys

import pytest
import torch

from distdbg.probes.statistics import CHUNK, compute_stats
from distdbg.schema.tensor import Stats

DTYPES = [
    torch.float64, torch.float32, torch.bfloat16, torch.float16, torch.float8_e4m3fn, torch.float8_e5m2, torch.int64,
    torch.int8, torch.uint8, torch.bool, torch.complex64,
]  # fmt: skip


def check(tensor: torch.Tensor) -> None:
    """Compare with float64 ground truth over the whole tensor at once."""
    found = compute_stats(tensor)
    truth = (tensor.abs() if tensor.is_complex() else tensor).to(torch.float64).flatten()
    finite = truth[truth.isfinite()]
    assert found.count == truth.numel()
    assert found.num_nan == int(truth.isnan().sum())
    assert found.num_inf == int(truth.isinf().sum())
    assert found.num_zero == int((truth == 0).sum())
    assert found.mean == pytest.approx(finite.mean().item(), rel=1e-9, abs=1e-12)
    assert found.std == pytest.approx(finite.std(correction=0).item(), rel=1e-9, abs=1e-12)
    assert (found.min, found.max) == (finite.min().item(), finite.max().item())


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_dtype_over_several_pieces(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    check((torch.randn(3 * CHUNK + 7) * 20).to(dtype))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.complex64], ids=str)
def test_nan_and_inf_are_counted_and_left_out(dtype: torch.dtype) -> None:
    values = torch.randn(2 * CHUNK).to(dtype)
    values[5], values[CHUNK + 1], values[-1], values[7] = math.nan, math.inf, -math.inf, 0
    check(values)


@pytest.mark.parametrize(
    "view",
    [
        torch.arange(24.0).reshape(4, 6).t(),
        torch.arange(24.0).reshape(2, 3, 4)[:, ::2, 1:],
        torch.arange(6.0).reshape(6, 1).expand(6, 50),
        torch.arange(3.0 * CHUNK).reshape(3, CHUNK).t(),
        torch.arange(4.0 * CHUNK).reshape(2, -1)[:, 1:],
        torch.tensor(2.5),
    ],
    ids=["transposed", "strided", "expanded", "long transposed", "long rows", "scalar"],
)
def test_strides_do_not_matter(view: torch.Tensor) -> None:
    check(view)


def test_large_mean_does_not_cancel() -> None:
    check(torch.randn(2 * CHUNK, dtype=torch.float64) + 1e9)


def test_empty_and_without_a_finite_value() -> None:
    empty = {"mean": None, "std": None, "min": None, "max": None}
    assert compute_stats(torch.empty(0, 3)) == Stats(count=0, **empty, num_nan=0, num_inf=0, num_zero=0)
    lost = torch.tensor([math.nan, math.inf, math.nan])
    assert compute_stats(lost) == Stats(count=3, **empty, num_nan=2, num_inf=1, num_zero=0)


def test_inside_the_jobs_own_modes() -> None:
    """A parked thread may be inside a dispatch mode: the read must not show up there, nor autograd record it."""
    from torch.utils._python_dispatch import TorchDispatchMode

    seen = []

    class Spy(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            seen.append(function)
            return function(*args, **(kwargs or {}))

    values = torch.randn(10, requires_grad=True)
    with Spy():
        compute_stats(values)
        assert seen == []
        values + 1
    assert len(seen) == 1


MEASURE = """
import resource, sys, torch
from distdbg.probes.fingerprint import fingerprint
from distdbg.probes.statistics import compute_stats
big = torch.ones(100_000_000, dtype=torch.bfloat16).view(10_000, 10_000)
big = big.t() if sys.argv[1] == "transposed" else big
compute_stats(torch.ones(1 << 18)), fingerprint(big[:10])  # load what is loaded at first use
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
assert compute_stats(big).mean == 1.0
fingerprint(big)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.parametrize("order", ["contiguous", "transposed"])
def test_100m_elements_need_a_few_mb(order: str) -> None:
    """The peak of the process grows by a few pieces, not by a copy of the tensor's 200 MB."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, order], capture_output=True, text=True, check=True, timeout=120
    )
    assert int(done.stdout) < 16_000, done.stdout  # kB
