"""Dynamic symbols of an ELF file, found through its hash table.

A lookup touches a few dozen bytes of the file. Reading the whole symbol table in Python would take longer
than the rest of an injection, and several ranks are injected at once.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path

_PT_LOAD, _PT_DYNAMIC = 1, 2
_DT_HASH, _DT_STRTAB, _DT_SYMTAB, _DT_GNU_HASH = 4, 5, 6, 0x6FFFFEF5
_SYMBOL = struct.Struct("<IBBHQQ")
_SYMBOL_VERSIONED_IFUNC = 10

MACHINES = {62: "x86_64", 183: "aarch64"}


class ElfError(Exception):
    """Not an ELF file of the kind we can read."""


class ElfFile:
    """A 64-bit little-endian ELF file. Addresses are relative to where its first byte is loaded."""

    def __init__(self, path: str | Path) -> None:
        with open(path, "rb") as file:
            try:
                self._bytes = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
            except ValueError as empty:
                raise ElfError(f"{path} is empty") from empty
        if len(self._bytes) < 64 or self._bytes[:6] != b"\x7fELF\x02\x01":
            raise ElfError(f"{path} is not a 64-bit little-endian ELF file")
        self.machine = MACHINES.get(self._unpack("<H", 18)[0], "unknown")
        self._segments = list(self._read_segments())
        loads = [(address, offset) for kind, offset, address, _ in self._segments if kind == _PT_LOAD]
        if not loads:
            raise ElfError(f"{path} has nothing to load")
        self._base = loads[0][0] - loads[0][1]
        self._dynamic = dict(self._read_dynamic())

    def find_symbols(self, names: Iterable[str]) -> dict[str, int]:
        """Load-relative addresses of those of `names` that the file defines."""
        found = {}
        for name in names:
            address = self._find_symbol(name.encode())
            if address is not None:
                found[name] = address - self._base
        return found

    def _find_symbol(self, name: bytes) -> int | None:
        indices = self._gnu_hash_chain(name) if _DT_GNU_HASH in self._dynamic else self._sysv_chain(name)
        for index in indices:
            offset = self._file_offset(self._dynamic[_DT_SYMTAB]) + index * _SYMBOL.size
            string, info, _other, section, address, _size = _SYMBOL.unpack_from(self._bytes, offset)
            is_defined = section != 0 and info & 15 != _SYMBOL_VERSIONED_IFUNC
            if is_defined and self._is_string(string, name):
                return int(address)
        return None

    def _gnu_hash_chain(self, name: bytes) -> Iterator[int]:
        table = self._file_offset(self._dynamic[_DT_GNU_HASH])
        num_buckets, first_hashed, num_bloom, _shift = self._unpack("<4I", table)
        buckets = table + 16 + num_bloom * 8
        chain = buckets + num_buckets * 4
        wanted = gnu_hash(name)
        (index,) = self._unpack("<I", buckets + wanted % num_buckets * 4) if num_buckets else (0,)
        while index >= first_hashed:
            (found,) = self._unpack("<I", chain + (index - first_hashed) * 4)
            # The lowest bit of a chain entry only marks the end of its chain.
            if found | 1 == wanted | 1:
                yield index
            if found & 1:
                return
            index += 1

    def _sysv_chain(self, name: bytes) -> Iterator[int]:
        if _DT_HASH not in self._dynamic:
            return
        table = self._file_offset(self._dynamic[_DT_HASH])
        num_buckets, _num_chain = self._unpack("<2I", table)
        (index,) = self._unpack("<I", table + 8 + sysv_hash(name) % num_buckets * 4) if num_buckets else (0,)
        while index:
            yield index
            (index,) = self._unpack("<I", table + 8 + (num_buckets + index) * 4)

    def _is_string(self, string: int, name: bytes) -> bool:
        start = self._file_offset(self._dynamic[_DT_STRTAB]) + string
        return self._bytes[start : start + len(name) + 1] == name + b"\0"

    def _read_segments(self) -> Iterator[tuple[int, int, int, int]]:
        (table,) = self._unpack("<Q", 32)
        size, count = self._unpack("<2H", 54)
        for index in range(count):
            kind, _flags, offset, address, _physical, file_size = self._unpack("<IIQQQQ", table + index * size)
            yield kind, offset, address, file_size

    def _read_dynamic(self) -> Iterator[tuple[int, int]]:
        for kind, offset, _address, size in self._segments:
            if kind == _PT_DYNAMIC:
                for entry in range(offset, offset + size, 16):
                    tag, number = self._unpack("<2Q", entry)
                    if tag == 0:
                        return
                    yield tag, number

    def _file_offset(self, address: int) -> int:
        for kind, offset, start, size in self._segments:
            if kind == _PT_LOAD and start <= address < start + size:
                return offset + address - start
        raise ElfError(f"address {address:#x} is not in the file")

    def _unpack(self, layout: str, offset: int) -> tuple[int, ...]:
        try:
            return struct.unpack_from(layout, self._bytes, offset)
        except struct.error as short:
            raise ElfError("the file is cut short") from short


def find_symbols(path: str | Path, names: Iterable[str]) -> dict[str, int]:
    """Load-relative addresses of those of `names` that the file at `path` defines."""
    return ElfFile(path).find_symbols(names)


def gnu_hash(name: bytes) -> int:
    result = 5381
    for byte in name:
        result = (result * 33 + byte) & 0xFFFFFFFF
    return result


def sysv_hash(name: bytes) -> int:
    result = 0
    for byte in name:
        result = (result << 4) + byte
        result = (result ^ (result & 0xF0000000) >> 24) & 0x0FFFFFFF
    return result
