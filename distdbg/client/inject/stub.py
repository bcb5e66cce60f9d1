"""Machine code of the fresh thread: take the GIL like any other thread, run a string, free this code, end.

pthread_detach(pthread_self());
if (Py_IsInitialized()) {
    state = PyGILState_Ensure();
    PyRun_SimpleString(code);
    PyGILState_Release(state);
}
return munmap(page, size);      // as a jump: it returns to the C library's thread end, not to the page
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping

_PAGE = 4096
_CODE_OFFSET = 512
"""Where the string starts in the mapping; the code before it takes under 200 bytes."""
SPARE_OFFSET = 448
"""Eight bytes of the mapping that nothing uses."""


def mapping_size(source: bytes) -> int:
    """Bytes to map for the stub and a NUL-terminated `source`."""
    return (_CODE_OFFSET + len(source) + 1 + _PAGE - 1) // _PAGE * _PAGE


def assemble(machine: str, functions: Mapping[str, int], address: int, source: bytes) -> bytes:
    """Contents of a mapping at `address` whose first byte is a pthread start routine that runs `source`."""
    code = _ASSEMBLERS[machine](functions, address + _CODE_OFFSET, address, mapping_size(source))
    assert len(code) <= SPARE_OFFSET
    return code.ljust(_CODE_OFFSET, b"\0") + source + b"\0"


def has_stub(machine: str) -> bool:
    return machine in _ASSEMBLERS


def _x86_64(functions: Mapping[str, int], source: int, page: int, size: int) -> bytes:
    def load(register: bytes, number: int) -> bytes:  # movabs $number, %register
        return register + struct.pack("<Q", number)

    rax, rdi, rsi = b"\x48\xb8", b"\x48\xbf", b"\x48\xbe"

    def call(name: str) -> bytes:
        return load(rax, functions[name]) + b"\xff\xd0"  # call *%rax

    guarded = (
        call("PyGILState_Ensure")
        + b"\x89\xc3"  # mov %eax, %ebx
        + load(rdi, source)
        + call("PyRun_SimpleString")
        + b"\x89\xdf"  # mov %ebx, %edi
        + call("PyGILState_Release")
    )
    return (
        b"\xf3\x0f\x1e\xfa"  # endbr64: a legal target where indirect branches are checked
        b"\x53"  # push %rbx, which also aligns the stack to 16
        + call("pthread_self")
        + b"\x48\x89\xc7"  # mov %rax, %rdi
        + call("pthread_detach")
        + call("Py_IsInitialized")
        + b"\x85\xc0\x74"  # test %eax, %eax; jz over the guarded part
        + bytes([len(guarded)])
        + guarded
        + b"\x5b"  # pop %rbx
        + load(rdi, page)
        + load(rsi, size)
        + load(rax, functions["munmap"])
        + b"\xff\xe0"  # jmp *%rax
    )


_ASSEMBLERS: dict[str, Callable[[Mapping[str, int], int, int, int], bytes]] = {"x86_64": _x86_64}
