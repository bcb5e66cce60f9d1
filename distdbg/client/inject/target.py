"""What an injector must know about the process before it stops anything in it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from distdbg.client.inject.elf import ElfError, ElfFile
from distdbg.client.inject.permission import PREPARE, check_state, explain_refusal
from distdbg.client.procfs import PROC, Mapping, read_executable, read_mappings
from distdbg.errors import InjectionFailed, NotPython, ProcessGone

PYTHON_FUNCTIONS = ("Py_IsInitialized", "PyGILState_Ensure", "PyGILState_Release", "PyRun_SimpleString")
LIBC_FUNCTIONS = ("pthread_create", "pthread_detach", "pthread_self", "mmap", "munmap")

_LIBPYTHON = re.compile(r"libpython3[\w.]*\.so")
_PYTHON = re.compile(r"python(\d+(\.\d+)?[a-z]*)?$")
# glibc below 2.34 keeps pthread_create in libpthread.
_LIBC = re.compile(r"lib(c|pthread)[.-][\w.-]*so")
_LOADER = re.compile(r"ld(-linux)?[\w.-]*\.so")
_ALLOCATOR = re.compile(r"lib(jemalloc|tcmalloc|mimalloc|asan|tsan|hoard|tbbmalloc)")
_INT3 = b"\xcc"
_DELETED = " (deleted)"

Range = tuple[int, int]


@dataclass(frozen=True)
class Target:
    """Addresses in one process, and where its threads may hold a lock that `pthread_create` needs."""

    pid: int
    machine: str
    functions: dict[str, int]
    trap: int
    """Address of an executable int3 byte: a called function returns to it and so back to us."""
    loader: tuple[Range, ...]
    lock_holders: tuple[Range, ...]
    """libc and the allocators: a thread whose instruction pointer is here may hold the malloc lock."""


def locate(pid: int) -> Target:
    """Find everything. Raises ProcessGone, NotPermitted, NotPython or InjectionFailed; touches nothing."""
    status = check_state(pid)
    try:
        mappings = read_mappings(pid)
    except PermissionError as error:
        raise explain_refusal(pid) from error
    except (FileNotFoundError, ProcessLookupError) as error:
        raise ProcessGone(f"Process {pid} ended while attaching.") from error
    if not mappings:
        raise ProcessGone(f"Process {pid} ({status.name}) is ending: it has no memory left.")
    executable = read_executable(pid)
    if not is_python(executable, (mapping.name for mapping in mappings)):
        raise NotPython(f"Process {pid} ({status.name}) is not a Python process: there is no interpreter in it.")

    interpreter = [m for m in mappings if _LIBPYTHON.match(m.name)] + [
        m for m in mappings if m.path.removesuffix(_DELETED) == executable
    ]
    libc = [m for m in mappings if _LIBC.match(m.name)]
    functions = _find_functions(pid, interpreter, PYTHON_FUNCTIONS) | _find_functions(pid, libc, LIBC_FUNCTIONS)
    missing = sorted({*PYTHON_FUNCTIONS, *LIBC_FUNCTIONS} - set(functions))
    if missing:
        raise InjectionFailed(
            f"Process {pid} ({status.name}) does not export {', '.join(missing)}: a stripped static Python"
            f" or a C library other than glibc. The job was not touched.\n{PREPARE}."
        )
    return Target(
        pid=pid,
        machine=_read_machine(pid),
        functions=functions,
        trap=_find_trap(pid, libc),
        loader=_executable_ranges(mappings, _LOADER),
        lock_holders=_executable_ranges(mappings, _LIBC) + _executable_ranges(mappings, _ALLOCATOR),
    )


def is_python(executable: str, mapped_names: Iterable[str]) -> bool:
    """Whether a CPython 3 interpreter lives in the process, embedded ones included."""
    return bool(_PYTHON.match(os.path.basename(executable))) or any(map(_LIBPYTHON.match, mapped_names))


def _find_functions(pid: int, mappings: list[Mapping], names: tuple[str, ...]) -> dict[str, int]:
    found: dict[str, int] = {}
    for mapping in mappings:
        if mapping.offset == 0 and len(found) < len(names):
            symbols = _open_mapped(pid, mapping).find_symbols(names)
            found = {name: mapping.start + offset for name, offset in symbols.items()} | found
    return found


def _open_mapped(pid: int, mapping: Mapping) -> ElfFile:
    """The file behind a mapping: through the target's own root, as it may be in a container."""
    by_path = Path(PROC, str(pid), "root", mapping.path.lstrip("/"))
    # map_files still reaches a file that was upgraded or deleted under the running job, with the right to
    # read it.
    by_address = Path(PROC, str(pid), "map_files", f"{mapping.start:x}-{mapping.end:x}")
    try:
        return ElfFile(by_address if mapping.path.endswith(_DELETED) else by_path)
    except FileNotFoundError as error:
        check_state(pid)  # one that has just ended has no files either: ProcessGone
        raise InjectionFailed(
            f"Cannot read {mapping.path} of pid {pid}: it was replaced on disk after the job started. The job was"
            f" not touched.\nAttach as root, or: {PREPARE}."
        ) from error
    except PermissionError as error:
        raise explain_refusal(pid) from error
    except ElfError as error:
        raise InjectionFailed(f"Cannot read the symbols of pid {pid}: {error}. The job was not touched.") from error


def _read_machine(pid: int) -> str:
    try:
        return ElfFile(Path(PROC, str(pid), "exe")).machine
    except (OSError, ElfError):
        return "unknown"


def _find_trap(pid: int, libc: list[Mapping]) -> int:
    """Any int3 byte in libc's code, also in the middle of an instruction: nobody else ever runs into it."""
    for mapping in libc:
        if mapping.is_executable:
            with open(Path(PROC, str(pid), "mem"), "rb", buffering=0) as memory:
                memory.seek(mapping.start)
                offset = memory.read(mapping.end - mapping.start).find(_INT3)
            if offset >= 0:
                return mapping.start + offset
    return 0


def _executable_ranges(mappings: list[Mapping], name: re.Pattern[str]) -> tuple[Range, ...]:
    return tuple((m.start, m.end) for m in mappings if m.is_executable and name.match(m.name))
