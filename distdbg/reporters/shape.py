"""Tensors in a few characters: `f32[4, 16, 36]`, `dp=S(0) tp=R`."""

from __future__ import annotations

import re
from collections.abc import Sequence

from distdbg.schema.tensor import Tensor

_SHORT = {
    "float64": "f64", "float32": "f32", "float16": "f16", "bfloat16": "bf16", "int64": "i64", "int32": "i32",
    "int16": "i16", "int8": "i8", "uint8": "u8", "bool": "bool", "complex64": "c64", "complex128": "c128",
    "float8_e4m3fn": "f8e4m3", "float8_e5m2": "f8e5m2",
}  # fmt: skip
_SHARD = re.compile(r"_?S(?:trided)?(?:Shard|hard)?\((?:dim=)?(-?\d+)")


def dtype(name: str) -> str:
    """`f32` of `torch.float32`."""
    bare = name.removeprefix("torch.")
    return _SHORT.get(bare, bare)


def shape(sizes: Sequence[int]) -> str:
    """`[4, 16, 36]`."""
    return "[" + ", ".join(map(str, sizes)) + "]"


def typed(tensor: Tensor) -> str:
    """`f32[4, 16, 36]`, the global shape."""
    return dtype(tensor.dtype) + shape(tensor.shape)


def mesh(axes: Sequence[str], sizes: Sequence[int]) -> str:
    """`dp=2 x tp=2`."""
    return " x ".join(f"{axis}={size}" for axis, size in zip(axes, sizes, strict=True))


def placed(tensor: Tensor) -> str:
    """`dp=S(0) tp=R`."""
    return " ".join(f"{axis}={word}" for axis, word in zip(tensor.axes, tensor.placements, strict=True))


def sharded_dim(placement: str, num_dims: int) -> int | None:
    """The dim that `S(0)` or `_S(0, 2)` shards, counted from 0; None for the other placements."""
    match = _SHARD.match(placement)
    if not match:
        return None
    return int(match[1]) % num_dims if num_dims else None
