"""Agents in all ranks of a job: those that listen already, and those that are brought up now. All of them, or none."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

from distdbg import errors
from distdbg.client.inject import inject
from distdbg.client.process import RankProcess, find_torch_children
from distdbg.client.procfs import read_status
from distdbg.client.session import Session
from distdbg.errors import AttachError, InjectionFailed, NoJob, NotDistributed, NotPermitted, ProcessGone
from distdbg.wire.runtime import Record, read_records, runtime_dir

WITHDRAW_S = 2.0
"""How long agents that came up beside one that could not are waited for, to be taken away again."""
_TOP_LEVELS = ("distdbg", "zmq", "msgspec", "xxhash")
_INJECTED = """
import sys
import threading
from importlib.machinery import PathFinder
from time import time
class Finder:
    @staticmethod
    def find_spec(name, path=None, target=None):
        return PathFinder.find_spec(name, {paths!r}[name]) if path is None and name in {paths!r} else None
def come_up():
    sys.meta_path.insert(0, Finder)
    try:
        from distdbg.agent import bootstrap
        bootstrap.load()
    except BaseException as error:
        import json, os
        record = dict(pid=os.getpid(), rank=-1, world_size=0, run_id="", socket="", started=0.0, is_prepared=False)
        record["error"] = f"ImportError: {{type(error).__name__}}: {{error}} (Python {{sys.version.split()[0]}})"
        with open(os.path.join({directory!r}, f"{{os.getpid()}}.partial"), "w") as file:
            json.dump(record, file)
        os.rename(file.name, os.path.join({directory!r}, f"{{os.getpid()}}.json"))
        return
    finally:
        sys.meta_path.remove(Finder)
    bootstrap.serve_injected({directory!r})
if time() < {until!r}:
    threading.Thread(target=come_up, name="distdbg-agent", daemon=True).start()
"""
"""The agent's import, and what it needs to find us: the rank's environment need not have distdbg. The finder answers
for our own few names only, and is gone when they are there. `until`: a process that could not run Python while we
waited for it gets no agent later, when nobody is there any more."""


def list_agents() -> dict[int, Record]:
    """pid -> the record of an agent that listens, or why there is none."""
    with contextlib.suppress(NotPermitted):
        directory = runtime_dir()
        _sweep(directory)
        return {record.pid: record for record in read_records(directory)}
    return {}


def _sweep(directory: Path) -> None:
    """Take away what agents have left that could not do so themselves: their processes were killed.

    A process that we cannot see may run in another container, so that nobody listens has to be true as well.
    """
    for path in directory.glob("*.sock"):
        record = path.with_suffix(".json")
        is_unpublished = not record.exists()  # it may be coming up
        if path.stem.isdecimal() and not (is_unpublished and _is_running(int(path.stem))) and not _is_listening(path):
            record.unlink(missing_ok=True)
            path.unlink(missing_ok=True)


def _is_listening(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)  # a stopped process accepts nobody
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError:
            return True  # it is there, and does not want us
        return True


def bring_up(processes: Sequence[RankProcess], timeout_s: float) -> dict[int, Record]:
    """The records of all ranks' agents, injected where there was none."""
    directory = runtime_dir()
    known = {pid: record for pid, record in list_agents().items() if not record.error}
    missing = [process for process in processes if process.pid not in known]
    for process in missing:
        (directory / f"{process.pid}.json").unlink(missing_ok=True)  # of an earlier failure, or a dead process
    code = _INJECTED.format(paths=_import_paths(), directory=str(directory), until=time.time() + timeout_s)
    if missing:
        with ThreadPoolExecutor(max_workers=min(16, len(missing))) as pool:
            attempts = {process.pid: pool.submit(inject, process.pid, code) for process in missing}
        failed = {pid: error for pid, done in attempts.items() if (error := done.exception()) is not None}
        if failed:
            _withdraw(directory, [process.pid for process in missing if process.pid not in failed])
            raise next(iter(failed.values()))
    records = _await_records(directory, [process.pid for process in processes], timeout_s)
    by_rank = {record.rank: record for record in records}
    for record in records:
        if (other := by_rank[record.rank]) is not record:
            _withdraw(directory, [each.pid for each in records])
            raise NoJob(f"pids {record.pid} and {other.pid} are both rank {record.rank}: they are of two jobs.")
    return by_rank


def _import_paths() -> dict[str, list[str]]:
    """Where our own few packages are, for a rank that may have another environment."""
    found: dict[str, list[str]] = {}
    for name in _TOP_LEVELS:
        spec = find_spec(name)
        if spec is not None and spec.origin is not None:
            found[name] = [str(Path(spec.origin).resolve().parent.parent)]
    return found


def _await_records(directory: Path, pids: Sequence[int], timeout_s: float) -> list[Record]:
    deadline = time.monotonic() + timeout_s
    while True:
        found = {record.pid: record for record in read_records(directory) if record.pid in pids}
        bad = [record for record in found.values() if record.error]
        if bad:
            _withdraw(directory, pids)
            raise _failure_of(bad[0])
        if len(found) == len(pids):
            return [found[pid] for pid in pids]
        silent = [pid for pid in pids if pid not in found]
        gone = [pid for pid in silent if not _is_running(pid)]
        if gone:
            _withdraw(directory, pids)
            raise ProcessGone(f"Process {gone[0]} ended while attaching; the other ranks were left as they were.")
        if time.monotonic() > deadline:
            _withdraw(directory, list(found))
            is_stopped = [pid for pid in silent if _state(pid) == "T"]
            why = "it is stopped by a signal" if is_stopped else "its Python does not run (something holds the GIL)"
            raise InjectionFailed(
                f"pid {', '.join(map(str, is_stopped or silent))} did not answer in {timeout_s:g} s: {why}. Nothing is"
                " left in the others, and nothing will start there later."
                + (f"\nLet it go on with `kill -CONT {is_stopped[0]}`, then attach again." if is_stopped else "")
            )
        time.sleep(0.003)


def _state(pid: int) -> str:
    """The state as /proc tells it; X when there is no such process."""
    try:
        return read_status(pid).state
    except OSError:
        return "X"


def _is_running(pid: int) -> bool:
    return _state(pid) not in ("Z", "X")


def _failure_of(record: Record) -> AttachError:
    kind, _, text = record.error.partition(": ")
    if kind == "ImportError":
        return InjectionFailed(
            f"The agent could not be imported in pid {record.pid}: {text}. The job was not touched.\n"
            "Install distdbg in the job's own environment, or attach from one with the same Python version."
        )
    error = getattr(errors, kind, InjectionFailed)
    if not issubclass(error, AttachError):
        return InjectionFailed(f"The agent did not come up in pid {record.pid}: {record.error}")
    children = find_torch_children(record.pid) if error is NotDistributed else []
    if children:
        pids = " ".join(f"--pid {pid}" for pid in children)
        text += f"\nIf the ranks are its children (mp.spawn), name them: python -m distdbg attach {pids}"
    return error(text)


def _withdraw(directory: Path, pids: Sequence[int]) -> None:
    """Some rank could not be attached: take the agents in the others away again, those on their way too."""
    deadline = time.monotonic() + WITHDRAW_S
    while True:
        there = {record.pid: record for record in read_records(directory) if record.pid in pids}
        if time.monotonic() > deadline or all(pid in there or not _is_running(pid) for pid in pids):
            break
        time.sleep(0.003)
    for pid in pids:
        if not _is_running(pid) or (pid in there and there[pid].error):
            for path in directory.glob(f"{pid}.*"):
                path.unlink(missing_ok=True)
    agents = [record for record in there.values() if not record.error]
    if agents:
        Session(dict(enumerate(agents)), timeout_s=WITHDRAW_S).detach()
