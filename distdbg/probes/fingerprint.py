"""A fingerprint of a tensor's bytes: equal shards have equal ones, a single flipped bit does not."""

from __future__ import annotations

import ctypes
import zlib
from typing import Any

import torch

from distdbg.probes.device import iterate_on_host, quiet

try:
    import xxhash
except ImportError:  # optional: about five times faster than crc32
    xxhash = None  # type: ignore[assignment,unused-ignore]

_CHUNK_BYTES = 1 << 21


def fingerprint(local: torch.Tensor, *, live: bool = False) -> str:
    """`xxh3:HEX`, or `crc32:HEX` where xxhash is not installed, over the elements' bytes in row-major order.

    Bit-exact: NaN payloads and -0.0 count. Strides do not. Shape and dtype are not in it: compare only tensors whose
    offset, shape and dtype are equal. Raises RefusedError when a live read of a busy GPU takes too long.
    """
    digest: Any = _Crc32() if xxhash is None else xxhash.xxh3_64()
    with quiet():
        for chunk in iterate_on_host(local, max(1, _CHUNK_BYTES // local.element_size()), live=live):
            plain = chunk.resolve_conj().resolve_neg().contiguous()
            size_bytes = plain.numel() * plain.element_size()
            digest.update(memoryview((ctypes.c_char * size_bytes).from_address(plain.data_ptr())))
    return f"{'crc32' if xxhash is None else 'xxh3'}:{digest.hexdigest()}"


class _Crc32:
    def __init__(self) -> None:
        self._value = 0

    def update(self, piece: memoryview) -> None:
        self._value = zlib.crc32(piece, self._value)

    def hexdigest(self) -> str:
        return f"{self._value:08x}"
