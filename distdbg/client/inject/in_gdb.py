"""Runs inside gdb, in gdb's own Python: of this package it can only load files that import nothing of it.

Reads a request written by `gdb.py`, finds a thread that stands where it may be used, and lets it map the stub and
call `pthread_create`. gdb saves and restores the registers, and lets the other threads run meanwhile.
"""

from __future__ import annotations

import json
import os
import runpy
from typing import Any

import gdb  # type: ignore[import-untyped]

_PROT_READ_WRITE_EXEC, _MAP_PRIVATE_ANONYMOUS = 7, 0x22
_FAILED = 0xFFFFFFFFFFFFFFFF


def main() -> None:
    with open(os.environ["DISTDBG_GDB_REQUEST"]) as file:
        request = json.load(file)
    try:
        answer = start_thread(request)
    except gdb.error as error:
        answer = {"error": str(error)}
    print("\ndistdbg: " + json.dumps(answer), flush=True)  # noqa: T201


def start_thread(request: dict[str, Any]) -> dict[str, Any]:
    thread = next((thread for thread in gdb.selected_inferior().threads() if is_safe(thread, request)), None)
    if thread is None:
        return {}
    thread.switch()
    functions = request["functions"]
    stub = runpy.run_path(os.path.join(os.path.dirname(os.path.abspath(__file__)), "stub.py"))
    source = request["source"].encode("ascii")
    size = stub["mapping_size"](source)
    page = call(functions["mmap"], 0, size, _PROT_READ_WRITE_EXEC, _MAP_PRIVATE_ANONYMOUS, -1, 0)
    if page == _FAILED:
        return {"error": "no memory could be mapped in it"}
    contents = stub["assemble"](request["machine"], functions, page, source)
    gdb.selected_inferior().write_memory(page, contents)
    # pthread_create stores the thread's id in the unused room between stub and string (before the thread starts).
    result = call(functions["pthread_create"], page + stub["SPARE_OFFSET"], 0, page, 0) & 0xFFFFFFFF
    if result:
        call(functions["munmap"], page, size)
        return {"error": "pthread_create says " + os.strerror(result)}
    return {"tid": thread.ptid[1]}


def is_safe(thread: Any, request: dict[str, Any]) -> bool:
    """The rule of `safety.py`, without its second look at threads that wait for a lock."""
    thread.switch()
    instruction = int(gdb.parse_and_eval("(unsigned long)$pc"))
    if is_in(instruction, request["loader"]):
        return False
    if not is_in(instruction, request["lock_holders"]):
        return True
    syscall = int(gdb.parse_and_eval("(long)$orig_rax"))
    return syscall >= 0 and syscall not in request["under_locks"]


def is_in(address: int, ranges: list[tuple[int, int]]) -> bool:
    return any(start <= address < end for start, end in ranges)


def call(function: int, *arguments: int) -> int:
    numbers = ", ".join(f"(unsigned long){number}" for number in arguments)
    types = ", ".join("unsigned long" for _ in arguments)
    return int(gdb.parse_and_eval(f"((unsigned long (*)({types})){function:#x})({numbers})"))


main()
