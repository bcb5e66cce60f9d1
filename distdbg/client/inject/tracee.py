"""One thread of another process under ptrace: stop it, call a function on it, let it go as it was.

x86-64 Linux only.

The calls hold our GIL (PyDLL): they never block, and giving the GIL away twenty times while the other process
waits would let each of our own threads add its 5 ms to that wait.
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import time
from dataclasses import dataclass

from distdbg.client.procfs import PROC

_POKEDATA, _CONT, _DETACH = 5, 7, 17
_GETREGSET, _SETREGSET, _SEIZE, _INTERRUPT, _GETSIGMASK, _SETSIGMASK = (
    0x4204,
    0x4205,
    0x4206,
    0x4207,
    0x420A,
    0x420B,
)
_NT_PRSTATUS, _NT_PRFPREG, _NT_X86_XSTATE = 1, 2, 0x202
# Room for AMX, whose tiles alone take 8 KiB.
_XSTATE_SIZE = 1 << 15
_EVENT_STOP = 128
_WALL, _WNOTHREAD = 0x40000000, 0x20000000
_SYNCHRONOUS = (
    *(signal.SIGTRAP, signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE),
    *(signal.SIGABRT, signal.SIGSYS),
)
_REGISTERS = (
    *("r15", "r14", "r13", "r12", "rbp", "rbx", "r11", "r10", "r9", "r8", "rax", "rcx", "rdx", "rsi", "rdi"),
    *("orig_rax", "rip", "cs", "eflags", "rsp", "ss", "fs_base", "gs_base", "ds", "es", "fs", "gs"),
)
_DIRECTION_FLAG = 0x400
_RED_ZONE = 128
_NO_SYSCALL = (1 << 64) - 1

_libc = ctypes.PyDLL(None, use_errno=True)
_libc.ptrace.restype = ctypes.c_long
_libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]


class ThreadGone(Exception):
    """The thread ended, or the whole process did."""


class StillRunning(Exception):
    """The thread did not stop in time: it is in an uninterruptible system call."""


class CallFailed(Exception):
    """A function called on the thread did not return."""


class Registers(ctypes.Structure):
    """`struct user_regs_struct`."""

    _fields_ = [(name, ctypes.c_uint64) for name in _REGISTERS]


class _Vector(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]


@dataclass(frozen=True)
class Stop:
    """Why the thread stopped: `event` is 0 when `signal` is about to be delivered to it."""

    event: int
    signal: int

    @property
    def is_on_request(self) -> bool:
        return self.event == _EVENT_STOP and self.signal == signal.SIGTRAP


class Tracee:
    """A seized thread. Use from one thread only: the kernel ties the two together."""

    def __init__(self, pid: int, tid: int) -> None:
        self.pid, self.tid = pid, tid
        self._ptrace(_SEIZE)

    def interrupt(self) -> None:
        self._ptrace(_INTERRUPT)

    def wait(self, timeout_s: float) -> Stop:
        """Wait for the next stop of this thread, and of no other."""
        deadline = time.monotonic() + timeout_s
        pause_s = 0.00002
        while True:
            try:
                waited, status = os.waitpid(self.tid, _WALL | _WNOTHREAD | os.WNOHANG)
            except ChildProcessError as error:
                raise ThreadGone from error
            if waited:
                break
            if time.monotonic() > deadline:
                raise StillRunning
            # A blocking wait could not be given up when the thread never stops.
            time.sleep(pause_s)
            pause_s = min(pause_s * 1.5, 0.001)
        if not os.WIFSTOPPED(status):
            raise ThreadGone
        return Stop(status >> 16, os.WSTOPSIG(status))

    def detach(self, pending_signal: int = 0) -> None:
        """Let the thread run on; a signal it was stopped for is delivered now."""
        self._ptrace(_DETACH, data=pending_signal)

    def read_registers(self) -> Registers:
        registers = Registers()
        self._transfer(_GETREGSET, _NT_PRSTATUS, registers, ctypes.sizeof(registers))
        return registers

    def write_registers(self, registers: Registers) -> None:
        self._transfer(_SETREGSET, _NT_PRSTATUS, registers, ctypes.sizeof(registers))

    def call(self, function: int, arguments: tuple[int, ...], registers: Registers, trap: int) -> int:
        """Call `function` on the stopped thread, below its stack, and return what it returns.

        The caller restores the registers. `registers` are those of the stop; the function returns to `trap`,
        an int3.
        """
        changed = Registers.from_buffer_copy(registers)
        changed.rsp = ((registers.rsp - _RED_ZONE - 1024) & ~15) - 8
        changed.rip = function
        changed.rax = 0
        changed.eflags = registers.eflags & ~_DIRECTION_FLAG
        # Else the kernel would take our registers for an interrupted system call and step back to restart it.
        changed.orig_rax = _NO_SYSCALL
        for name, number in zip(("rdi", "rsi", "rdx", "rcx", "r8", "r9"), arguments, strict=False):
            setattr(changed, name, number)
        self._ptrace(_POKEDATA, changed.rsp, trap)
        self.write_registers(changed)
        self._ptrace(_CONT)
        return self._wait_for_return(trap)

    def _wait_for_return(self, trap: int) -> int:
        while True:
            try:
                stop = self.wait(5.0)
            except StillRunning as stuck:
                self.interrupt()
                self.wait(1.0)
                raise CallFailed("the call did not return within 5 s") from stuck
            registers = self.read_registers()
            if stop.event == 0 and stop.signal == signal.SIGTRAP and registers.rip == trap + 1:
                return int(registers.rax)
            if stop.event == 0 and stop.signal in _SYNCHRONOUS:
                raise CallFailed(f"the call ended in {signal.Signals(stop.signal).name} at {registers.rip:#x}")
            # Somebody stopped the whole job meanwhile (SIGSTOP cannot be blocked): finish first, it stays
            # stopped.
            self._ptrace(_CONT)

    def write_memory(self, address: int, contents: bytes) -> None:
        """Write, also where the process itself may only read."""
        memory = os.open(f"{PROC}/{self.pid}/task/{self.tid}/mem", os.O_WRONLY)
        try:
            os.pwrite(memory, contents, address)
        finally:
            os.close(memory)

    def read_vector_state(self) -> tuple[int, ctypes.Array[ctypes.c_char]]:
        """FPU, SSE, AVX, AMX registers, in the form that `write_vector_state` takes."""
        for kind in (_NT_X86_XSTATE, _NT_PRFPREG):
            buffer = ctypes.create_string_buffer(_XSTATE_SIZE)
            try:
                length = self._transfer(_GETREGSET, kind, buffer, len(buffer))
            except OSError as error:
                # A processor without XSAVE has only the second form.
                if kind == _NT_PRFPREG or error.errno not in (errno.ENODEV, errno.EINVAL):
                    raise
            else:
                break
        return kind, ctypes.create_string_buffer(buffer.raw[:length], length)

    def write_vector_state(self, state: tuple[int, ctypes.Array[ctypes.c_char]]) -> None:
        kind, buffer = state
        self._transfer(_SETREGSET, kind, buffer, len(buffer))

    def block_signals(self) -> int:
        """Hold back signals (they stay pending for whoever takes them) and return the mask to restore.

        Only asynchronous ones: a blocked fault would make the kernel reset the program's handler for it.
        """
        mask = ctypes.c_uint64()
        self._ptrace(_GETSIGMASK, ctypes.sizeof(mask), ctypes.addressof(mask))
        self.set_signal_mask(_NO_SYSCALL & ~sum(1 << (number - 1) for number in _SYNCHRONOUS))
        return mask.value

    def set_signal_mask(self, mask: int) -> None:
        buffer = ctypes.c_uint64(mask)
        self._ptrace(_SETSIGMASK, ctypes.sizeof(buffer), ctypes.addressof(buffer))

    def _transfer(
        self, request: int, kind: int, buffer: ctypes.Structure | ctypes.Array[ctypes.c_char], size: int
    ) -> int:
        vector = _Vector(ctypes.addressof(buffer), size)
        self._ptrace(request, kind, ctypes.addressof(vector))
        return int(vector.length)

    def _ptrace(self, request: int, address: int = 0, data: int = 0) -> None:
        if _libc.ptrace(request, self.tid, address, data) != -1:
            return
        number = ctypes.get_errno()
        if number == errno.ESRCH:
            raise ThreadGone
        raise OSError(number, os.strerror(number))
