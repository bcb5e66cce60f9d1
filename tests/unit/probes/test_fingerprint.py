from __future__ import annotations

import zlib

import pytest
import torch

from distdbg.probes import fingerprint as room
from distdbg.probes.fingerprint import fingerprint

DTYPES = [
    torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.float8_e4m3fn, torch.int64, torch.uint8,
    torch.bool, torch.complex64,
]  # fmt: skip


@pytest.fixture(params=["xxh3", "crc32"])
def algorithm(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "crc32":
        monkeypatch.setattr(room, "xxhash", None)
    else:
        pytest.importorskip("xxhash")
    return str(request.param)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_equal_bytes_are_equal_and_one_change_is_not(dtype: torch.dtype, algorithm: str) -> None:
    values = (torch.arange(1000) % 2).to(torch.float32).to(dtype)
    other = values.clone()
    assert fingerprint(values) == fingerprint(other)
    assert fingerprint(values).startswith(f"{algorithm}:")
    other[999] = other[998]
    assert fingerprint(values) != fingerprint(other)


def test_is_the_hash_of_the_bytes_over_many_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "xxhash", None)
    values = torch.arange(1_500_000, dtype=torch.int32)
    assert fingerprint(values) == f"crc32:{zlib.crc32(bytes(values.untyped_storage())):08x}"


def test_bits_count_not_values(algorithm: str) -> None:
    zeros = torch.zeros(4)
    assert fingerprint(zeros) != fingerprint(-zeros)
    nan = torch.tensor([0x7FC00000, 0x7FC00001], dtype=torch.int32).view(torch.float32)
    assert fingerprint(nan[:1]) != fingerprint(nan[1:])


def test_order_counts_and_strides_do_not(algorithm: str) -> None:
    values = torch.randn(70, 90)
    assert fingerprint(values.t()) == fingerprint(values.t().contiguous())
    assert fingerprint(values) != fingerprint(values.flip(0))
    complex_values = torch.randn(5, dtype=torch.complex64)
    assert fingerprint(complex_values.conj()) == fingerprint(complex_values.conj().resolve_conj())


def test_long_transposed_is_hashed_in_row_major_order(algorithm: str) -> None:
    values = torch.arange(3_000_000, dtype=torch.int16).reshape(1500, 2000)
    assert fingerprint(values.t()) == fingerprint(values.t().contiguous())


def test_empty_tensors_are_equal(algorithm: str) -> None:
    assert fingerprint(torch.empty(0)) == fingerprint(torch.empty(3, 0))
