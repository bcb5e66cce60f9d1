"""Fallback on Python 3.14 and newer: ask the interpreter itself (PEP 768) to run a file.

Its main thread does so at its next safe point: while it is blocked in a collective, that is never. Both sides must run
the same minor version. The rights needed are those of ptrace.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

from distdbg.client import procfs
from distdbg.client.inject.injection import Injection
from distdbg.client.inject.permission import PREPARE, check_state, explain_refusal
from distdbg.errors import InjectionFailed, ProcessGone


def is_supported() -> bool:
    return hasattr(sys, "remote_exec")


def inject(pid: int, source: bytes) -> Injection:
    """Ask `pid` to run `source`; returns when it has been asked."""
    started = time.perf_counter()
    status = check_state(pid)
    remote_exec = getattr(sys, "remote_exec", None)
    if remote_exec is None:
        raise InjectionFailed(
            f"Cannot attach to pid {pid}: this Python has no sys.remote_exec, which came with 3.14. The job was not"
            f" touched.\n{PREPARE}."
        )
    path = _write_script(source, status.uid)
    try:
        remote_exec(pid, path)
    except PermissionError as error:
        os.unlink(path)
        raise explain_refusal(pid) from error
    except ProcessLookupError as error:
        os.unlink(path)
        raise ProcessGone(f"Process {pid} ended while attaching.") from error
    except (OSError, RuntimeError) as error:
        # RuntimeError: another minor version of Python, or remote debugging was switched off over there.
        os.unlink(path)
        raise InjectionFailed(
            f"Cannot attach to pid {pid}: {error}. The job was not touched.\nUse the job's own Python"
            f" ({procfs.read_executable(pid)}), or: {PREPARE}."
        ) from error
    return Injection("remote_exec", pid, 0.0, time.perf_counter() - started, 1)


def _write_script(source: bytes, uid: int) -> str:
    """A file that only the target's user can read and that removes itself when it is run."""
    descriptor, path = tempfile.mkstemp(prefix="distdbg-", suffix=".py")
    with os.fdopen(descriptor, "wb") as file:
        file.write(f'__import__("os").unlink({path!a})\n'.encode() + source)
    if uid != os.geteuid():
        os.chown(path, uid, -1)
    return str(Path(path))
