"""Symbols are found through the hash table, in real files and in broken ones."""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

import pytest

from distdbg.client.inject.elf import ElfError, ElfFile, find_symbols, gnu_hash, sysv_hash
from distdbg.client.procfs import read_mappings

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads this process's own libc")

FUNCTIONS = ("pthread_self", "mmap", "munmap")


def libc_mapping() -> tuple[str, int]:
    mapping = next(m for m in read_mappings(os.getpid()) if m.name.startswith("libc.so") and not m.offset)
    return mapping.path, mapping.start


def test_addresses_are_those_of_the_dynamic_linker() -> None:
    path, start = libc_mapping()
    found = {name: start + offset for name, offset in find_symbols(path, FUNCTIONS).items()}
    libc = ctypes.CDLL(path)
    assert found == {name: ctypes.cast(getattr(libc, name), ctypes.c_void_p).value for name in FUNCTIONS}


def test_what_a_file_only_imports_or_lacks_is_not_found() -> None:
    path, _start = libc_mapping()
    assert find_symbols(path, ["no_such_function", "PyGILState_Ensure", "_dl_argv"]) == {}


def test_machine_of_the_running_interpreter() -> None:
    assert ElfFile(sys.executable).machine == os.uname().machine


@pytest.mark.parametrize(
    "contents",
    [b"", b"#!/bin/sh\n", b"\x7fELF\x01\x01" + b"\0" * 100, b"\x7fELF\x02\x01" + b"\0" * 100],
    ids=["empty", "script", "32-bit", "no segments"],
)
def test_other_files_are_refused(tmp_path: Path, contents: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(contents)
    with pytest.raises(ElfError):
        find_symbols(path, FUNCTIONS)


@pytest.mark.parametrize("size", [64, 100, 1000])
def test_a_file_that_is_cut_short_is_refused(tmp_path: Path, size: int) -> None:
    path = tmp_path / "cut"
    path.write_bytes(Path(libc_mapping()[0]).read_bytes()[:size])
    with pytest.raises(ElfError):
        find_symbols(path, FUNCTIONS)


def test_hashes_are_those_of_the_specification() -> None:
    assert gnu_hash(b"") == 0x1505
    assert gnu_hash(b"printf") == 0x156B2BB8
    assert sysv_hash(b"printf") == 0x077905A6
