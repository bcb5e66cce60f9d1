"""Run code in a live Python process that was not prepared for it.

    inject(pid, "import threading; threading.Thread(target=..., daemon=True).start()")

The code runs once, in a fresh thread that holds the GIL, and should only start something: a daemon thread (say
`daemon=True`, as `threading.current_thread()` would leave a dummy behind for a thread that is about to end).
`inject` returns when the thread exists; the code has then not necessarily run, and will not until the GIL is free.
Nothing is left in `__main__`, and an exception is printed to the job's standard error and goes no further.

Call it from several threads for several processes at once; not for one's own child while another thread waits for
that child, as it would see the stops.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

from distdbg.client.inject import gdb, ptrace, remote
from distdbg.client.inject.injection import Injection
from distdbg.client.inject.source import wrap_source
from distdbg.errors import InjectionFailed

__all__ = ["METHODS", "Injection", "inject"]

METHODS = ("auto", "ptrace", "gdb", "remote_exec")


def inject(pid: int, code: str, *, method: str = "auto", timeout_s: float = 10.0) -> Injection:
    """Run `code` in process `pid`.

    'auto' takes the first method that this machine has: our own injector, sys.remote_exec, gdb. Raises an
    AttachError whose message says what to do: ProcessGone, NotPermitted, NotPython or InjectionFailed.
    """
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}")
    source = wrap_source(code)
    if sys.platform != "linux":
        raise InjectionFailed(
            f"Cannot attach to pid {pid}: only Linux processes can be attached to unprepared. The job was not touched."
            "\nStart it with `python -m distdbg run …` or DISTDBG=1."
        )
    chosen = _choose_method() if method == "auto" else method
    run: dict[str, Callable[[], Injection]] = {
        "ptrace": lambda: ptrace.inject(pid, source, timeout_s),
        "gdb": lambda: gdb.inject(pid, source, timeout_s),
        "remote_exec": lambda: remote.inject(pid, source),
    }
    return run[chosen]()


def _choose_method() -> str:
    if ptrace.is_supported():
        return "ptrace"
    if remote.is_supported():
        return "remote_exec"
    return "gdb" if gdb.is_supported() else "ptrace"
