"""Which thread to stop, and whether it may be used where it stopped.

The stopped thread will call `pthread_create`, which allocates: were it inside malloc, the loader or fork, it
would wait for a lock that it holds itself. So a thread asleep in a system call is chosen where there is one,
and any other place is accepted only outside the code that takes those locks.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from distdbg.client.inject.target import Range, Target
from distdbg.client.procfs import PROC, list_threads

# Preference for a thread asleep in this x86-64 system call. Being stopped interrupts the call: the first
# kinds are resumed by the kernel unseen; the last (epoll_wait, epoll_pwait) return EINTR, which their callers
# know to repeat.
_ASLEEP = (
    {202: 0, 230: 0, 35: 0}  # futex, clock_nanosleep, nanosleep
    | {7: 1, 271: 1, 23: 1, 270: 1}  # poll, ppoll, select, pselect6
    | {
        0: 2,
        45: 2,
        47: 2,
        43: 2,
        288: 2,
        61: 2,
        247: 2,
        34: 2,
        130: 2,
    }  # read, recv*, accept*, wait*, pause, sigsuspend
    | {232: 3, 281: 3, 441: 3}
)
_RUNNING, _OTHER_SYSCALL, _LOCK_WAIT, _UNINTERRUPTIBLE = 4, 8, 12, 1000
# What malloc, the loader, fork and pthread_create call while holding their locks: open, close, stat, mmap and
# its kin, rt_sigprocmask, pread64, sched_yield, clone and its kin, execve, exit, prctl, set_robust_list,
# getrandom, rseq.
UNDER_LOCKS = frozenset(
    {2, 3, 4, 5, 9, 10, 11, 12, 14, 17, 24, 25, 28, 56, 57, 58, 59, 60}
    | {157, 158, 231, 234, 257, 262, 273, 318, 324, 334, 435}
)
_FUTEX, _FUTEX_WAIT, _FUTEX_FLAGS = 202, 0, 0x180
_LOCKED_WITH_WAITERS = 2
_OLD_WAIT_S = 0.5


@dataclass(frozen=True)
class StopPoint:
    """Where a thread is: its instruction pointer, and the system call it was in with its first three arguments."""

    instruction: int
    syscall: int | None
    arguments: tuple[int, int, int]


def is_safe(point: StopPoint, target: Target, *, is_old_wait: bool = False) -> bool:
    """Whether a thread at `point` may call `pthread_create`."""
    if _is_in(point.instruction, target.loader):
        return False
    if not _is_in(point.instruction, target.lock_holders):
        return True
    if point.syscall is None or point.syscall in UNDER_LOCKS:
        return False
    # fork() waits for each malloc lock while holding the others; such a wait is over within microseconds, so
    # a thread that has been waiting for long waits for a lock of the program's own.
    return is_old_wait or not is_lock_wait(point)


def is_lock_wait(point: StopPoint) -> bool:
    """Whether it sleeps until another thread unlocks a mutex (rather than for an event or for some time)."""
    _address, operation, expected = point.arguments
    is_plain_wait = operation & ~_FUTEX_FLAGS == _FUTEX_WAIT
    return point.syscall == _FUTEX and is_plain_wait and expected == _LOCKED_WITH_WAITERS


def _is_in(address: int, ranges: tuple[Range, ...]) -> bool:
    return any(start <= address < end for start, end in ranges)


class ThreadChooser:
    """Names the next thread to try. A thread that did not do sinks behind the others."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._tries: Counter[int] = Counter()
        self._first_seen: dict[tuple[int, str], float] = {}

    def choose(self) -> int:
        """Raises OSError when the process is gone."""
        threads = list_threads(self._pid)
        tid = min(threads, key=lambda tid: (self._preference(tid) + self._tries[tid] // 4, self._tries[tid], tid))
        self._tries[tid] += 1
        return tid

    def is_old_wait(self, tid: int) -> bool:
        """Whether the thread has been in the very same system call since long before."""
        first_seen = self._first_seen.get((tid, self._read_syscall(tid)))
        return first_seen is not None and time.monotonic() - first_seen > _OLD_WAIT_S

    def _order(self, tid: int) -> tuple[int, int, int]:
        return self._preference(tid) + self._tries[tid] // 4, self._tries[tid], tid

    def _preference(self, tid: int) -> int:
        line = self._read_syscall(tid)
        self._first_seen.setdefault((tid, line), time.monotonic())
        fields = line.split()
        if self._is_uninterruptible(tid):
            return _UNINTERRUPTIBLE
        if len(fields) < 9:
            return _RUNNING
        point = StopPoint(int(fields[8], 16), int(fields[0]), _three(fields))
        if is_lock_wait(point):
            return _LOCK_WAIT
        return _ASLEEP.get(int(fields[0]), _OTHER_SYSCALL)

    def _is_uninterruptible(self, tid: int) -> bool:
        """Whether a stop would have to wait for a disk or a driver."""
        try:
            stat = Path(PROC, str(self._pid), "task", str(tid), "stat").read_text(errors="replace")
        except OSError:
            return False
        return stat.rpartition(")")[2].split()[0] == "D"

    def _read_syscall(self, tid: int) -> str:
        try:
            return Path(PROC, str(self._pid), "task", str(tid), "syscall").read_text()
        except OSError:
            # The thread just ended, or the kernel was built without this file: stopping it will tell.
            return ""


def _three(fields: list[str]) -> tuple[int, int, int]:
    return int(fields[1], 16), int(fields[2], 16), int(fields[3], 16)
