"""Fallback through gdb: the same fresh thread, for where our own ptrace calls are not possible.

gdb stops every thread of the process and takes about a second, so it is never the first choice. It is given addresses
and needs no symbols: loading torch's would take it minutes.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from distdbg.client.inject import stub
from distdbg.client.inject.injection import Injection
from distdbg.client.inject.permission import PREPARE, check_state, explain_refusal
from distdbg.client.inject.safety import UNDER_LOCKS
from distdbg.client.inject.target import Target, locate
from distdbg.errors import AttachError, InjectionFailed

_SCRIPT = Path(__file__).with_name("in_gdb.py")
_ANSWER = "distdbg: "
_GDB_TIMEOUT_S = 60.0


def is_supported() -> bool:
    return shutil.which("gdb") is not None


def inject(pid: int, source: bytes, timeout_s: float) -> Injection:
    """Run `source` in a fresh thread of `pid`."""
    started = time.perf_counter()
    target = locate(pid)
    if not is_supported() or not stub.has_stub(target.machine):
        reason = "there is no gdb here" if not is_supported() else f"no injector for {target.machine} processes"
        raise InjectionFailed(f"Cannot attach to pid {pid}: {reason}. The job was not touched.\n{PREPARE}.")
    longest_pause_s = 0.0
    tries = 0
    while tries == 0 or time.perf_counter() - started < timeout_s:
        tries += 1
        answer = _run_gdb(target, source, timeout_s)
        longest_pause_s = max(longest_pause_s, float(answer.get("paused_s", 0.0)))
        if answer.get("tid"):
            return Injection("gdb", int(answer["tid"]), longest_pause_s, time.perf_counter() - started, tries)
        if "error" in answer:
            raise _explain(pid, str(answer["error"]))
    raise InjectionFailed(
        f"No thread of pid {pid} came to a point where it could be used, in {tries} tries with gdb. The job was not"
        f" touched.\nTry again, or: {PREPARE}."
    )


def _run_gdb(target: Target, source: bytes, timeout_s: float) -> dict[str, str | float]:
    """What `in_gdb.py` answers: the thread it used, none ({}) when no thread would do, or an error."""
    request = {
        "machine": target.machine,
        "functions": target.functions,
        "loader": target.loader,
        "lock_holders": target.lock_holders,
        "under_locks": sorted(UNDER_LOCKS),
        "source": source.decode("ascii"),
    }
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(request, file)
        file.flush()
        # Symbols of shared libraries are not loaded; with -iex, as -ex would come after attaching.
        options = [
            "-nx",
            "-nh",
            "-batch",
            "-iex",
            "set auto-solib-add off",
            "-iex",
            "set debuginfod enabled off",
        ]
        command = ["gdb", *options, "-p", str(target.pid), "-x", str(_SCRIPT)]
        started = time.perf_counter()
        try:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                timeout=max(timeout_s, _GDB_TIMEOUT_S),
                env={**os.environ, "DISTDBG_GDB_REQUEST": file.name},
                # So that Ctrl-C does not reach gdb in the middle of a call.
                start_new_session=True,
            )
        except subprocess.TimeoutExpired as error:
            raise InjectionFailed(f"gdb did not come back from pid {target.pid}.\n{PREPARE}.") from error
    answers = [line.removeprefix(_ANSWER) for line in done.stdout.splitlines() if line.startswith(_ANSWER)]
    if not answers:
        return {"error": (done.stdout.strip().splitlines() or ["no output"])[-1]}
    answer: dict[str, str | float] = json.loads(answers[-1])
    # gdb does not tell when it stopped the process: this is an upper bound.
    return answer | {"paused_s": time.perf_counter() - started}


def _explain(pid: int, said: str) -> AttachError:
    """The error for what gdb answered, which for want of rights is a line of its own."""
    check_state(pid)
    if "ptrace" in said or "not permitted" in said:
        return explain_refusal(pid)
    return InjectionFailed(f"gdb could not start a thread in pid {pid}: {said}.\n{PREPARE}.")
