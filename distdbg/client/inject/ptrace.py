"""The injector: let one thread of a live CPython create a fresh pthread that takes the GIL and runs code.

The fresh thread waits for the GIL as any thread does, so the code runs at a point where running Python is
safe, whatever the process is doing: computing, sleeping, or blocked in a collective for good. The stopped
thread only calls `mmap` and `pthread_create` and is back after some milliseconds, its system call resumed.

What is known and left: user-mode shadow stacks (off by default everywhere) would refuse the return to our
trap; and when the console itself is killed (SIGKILL) within the few milliseconds of the pause, the kernel
lets the thread go in the middle of the call and the process dies of a SIGTRAP.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
import threading
import time

from distdbg.client.inject import stub
from distdbg.client.inject.injection import Injection
from distdbg.client.inject.permission import PREPARE, check_state, explain_refusal
from distdbg.client.inject.safety import StopPoint, ThreadChooser, is_safe
from distdbg.client.inject.target import Target, locate
from distdbg.client.inject.tracee import CallFailed, Registers, StillRunning, ThreadGone, Tracee
from distdbg.errors import AttachError, DistdbgError, InjectionFailed, ProcessGone

_PROT_READ_EXEC, _MAP_PRIVATE_ANONYMOUS = 5, 0x22
_FAILED = (1 << 64) - 1
_STOP_TIMEOUT_S = 1.0
_ONE_PAUSE_AT_A_TIME = threading.Lock()


def is_supported() -> bool:
    return sys.platform == "linux" and stub.has_stub(os.uname().machine)


def inject(pid: int, source: bytes, timeout_s: float) -> Injection:
    """Run `source` in a fresh thread of `pid`; return as soon as that thread exists.

    The work is done on a thread of its own: Ctrl-C raises KeyboardInterrupt in the main thread only, and so
    never between two steps; and should anything go wrong, the end of that thread makes the kernel release
    what it traced.
    """
    attempt = _Attempt(pid, source, timeout_s)
    worker = threading.Thread(target=attempt.run, name=f"distdbg-inject-{pid}", daemon=True)
    worker.start()
    try:
        worker.join()
    except KeyboardInterrupt:
        attempt.cancelled.set()
        worker.join(timeout=10.0)
        raise
    if attempt.error is not None:
        raise attempt.error
    assert attempt.injection is not None
    return attempt.injection


class _Attempt:
    """One injection: tries thread after thread until one stops where it may be used."""

    def __init__(self, pid: int, source: bytes, timeout_s: float) -> None:
        self.pid = pid
        self.cancelled = threading.Event()
        self.injection: Injection | None = None
        self.error: BaseException | None = None
        self._source = source
        self._timeout_s = timeout_s
        self._longest_pause_s = 0.0

    def run(self) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            self.injection = self._inject()
        except (ThreadGone, ProcessLookupError, FileNotFoundError) as error:
            self.error = _gone(self.pid, error)
        except PermissionError as error:
            self.error = explain_refusal(self.pid)
            self.error.__cause__ = error
        except OSError as error:
            self.error = InjectionFailed(
                f"Could not start a thread in pid {self.pid}: {error}. It goes on as before.\n{PREPARE}."
            )
            self.error.__cause__ = error
        except BaseException as error:  # carried over to the thread that asked
            self.error = error

    def _inject(self) -> Injection:
        started = time.perf_counter()
        target = locate(self.pid)
        if not stub.has_stub(target.machine) or os.uname().machine != target.machine or not target.trap:
            raise InjectionFailed(
                f"Cannot attach to pid {self.pid}: no injector for {target.machine} processes on"
                f" {os.uname().machine}. The job was not touched.\n{PREPARE}."
            )
        chooser = ThreadChooser(self.pid)
        tries = 0
        while time.perf_counter() - started < self._timeout_s and not self.cancelled.is_set():
            tries += 1
            tid = chooser.choose()
            if self._try_thread(target, tid, chooser):
                total_s = time.perf_counter() - started
                return Injection("ptrace", tid, self._longest_pause_s, total_s, tries)
            check_state(self.pid)
            self.cancelled.wait(min(0.001 * tries, 0.02))
        raise InjectionFailed(
            f"No thread of pid {self.pid} came to a point where it could be used, in {tries} tries over"
            f" {self._timeout_s:g} s. The job was not touched.\nTry again, or: {PREPARE}."
        )

    def _try_thread(self, target: Target, tid: int, chooser: ThreadChooser) -> bool:
        """Whether the code is on its way; False when this thread was in the wrong place, or has ended."""
        is_old_wait = chooser.is_old_wait(tid)
        with _ONE_PAUSE_AT_A_TIME:
            try:
                tracee = Tracee(self.pid, tid)
                paused_at = time.perf_counter()
                tracee.interrupt()
                stop = tracee.wait(_STOP_TIMEOUT_S)
            except ThreadGone:
                return False
            except StillRunning as error:
                raise InjectionFailed(
                    f"Thread {tid} of pid {self.pid} does not stop: it waits in the kernel for a disk or a"
                    " driver. The job was not touched.\nTry again later."
                ) from error
            if not stop.is_on_request:
                # A signal came first. Its handler would run on top of whatever the thread was doing, which
                # might hold a lock that cannot be seen any more: pass the signal on and come back.
                tracee.detach(stop.signal if stop.event == 0 else 0)
                return False
            registers = tracee.read_registers()
            try:
                if not is_safe(_stop_point(registers), target, is_old_wait=is_old_wait):
                    return False
                _create_thread(tracee, registers, target, self._source)
                return True
            finally:
                tracee.detach()
                self._longest_pause_s = max(self._longest_pause_s, time.perf_counter() - paused_at)


def _create_thread(tracee: Tracee, registers: Registers, target: Target, source: bytes) -> None:
    """Map the code and start a thread on it; the stopped thread is afterwards exactly as it was."""
    functions, trap = target.functions, target.trap
    vector_state = tracee.read_vector_state()
    # The fresh thread inherits the mask, so that the job's signals are never handled on it.
    mask = tracee.block_signals()
    try:
        size = stub.mapping_size(source)
        arguments = (0, size, _PROT_READ_EXEC, _MAP_PRIVATE_ANONYMOUS, _FAILED, 0)
        page = tracee.call(functions["mmap"], arguments, registers, trap)
        if page == _FAILED:
            raise CallFailed("no memory could be mapped in it")
        tracee.write_memory(page, stub.assemble(target.machine, functions, page, source))
        # Where pthread_create stores the thread's id: above the frame that `call` lays out, below the red
        # zone.
        slot = (registers.rsp - 512) & ~15
        result = tracee.call(functions["pthread_create"], (slot, 0, page, 0), registers, trap) & 0xFFFFFFFF
        if result:
            tracee.call(functions["munmap"], (page, size), registers, trap)
            raise CallFailed(f"pthread_create says {errno.errorcode.get(result, result)}: {os.strerror(result)}")
    except CallFailed as error:
        raise InjectionFailed(
            f"Could not start a thread in pid {tracee.pid}: {error}. It goes on as before.\n{PREPARE}."
        ) from error
    finally:
        tracee.write_vector_state(vector_state)
        tracee.write_registers(registers)
        tracee.set_signal_mask(mask)


def _stop_point(registers: Registers) -> StopPoint:
    syscall = registers.orig_rax if registers.orig_rax < 1 << 63 else None
    return StopPoint(registers.rip, syscall, (registers.rdi, registers.rsi, registers.rdx))


def _gone(pid: int, cause: BaseException) -> DistdbgError:
    try:
        check_state(pid)
    except AttachError as better:
        better.__cause__ = cause
        return better
    error = ProcessGone(f"Process {pid} ended while attaching.")
    error.__cause__ = cause
    return error
