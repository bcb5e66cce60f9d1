"""From a job's name to a session over its ranks."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from distdbg import errors
from distdbg.client.inject import inject
from distdbg.client.process import Job, RankProcess, find_jobs, find_torch_children, resolve_pid
from distdbg.client.procfs import describe_user, read_status
from distdbg.client.session import JobSummary, Session
from distdbg.errors import AttachError, InjectionFailed, NoJob, NotDistributed, NotPermitted, ProcessGone, UsageError
from distdbg.schema.message import Hello, Welcome
from distdbg.schema.ranks import RankContext, Ranks, format_ranks, parse_ranks
from distdbg.wire.runtime import Record, read_records, runtime_dir

_WITHDRAW_S = 2.0
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


@dataclass(frozen=True)
class JobListing:
    """A job as `jobs` lists it."""

    id: str
    script: str
    ranks: Ranks
    pids: tuple[int, ...]
    uptime_s: float
    is_prepared: bool
    run_id: str
    world_size: int


def list_jobs() -> list[JobListing]:
    """The jobs of this host that this user may see, oldest first."""
    records = _records()
    return [_listing(job, records) for job in find_jobs()]


def attach(
    job: str | None = None, *, pids: Sequence[int] = (), ranks: str | None = None, lease_s: float = 10.0,
    on_disconnect: str = "resume", timeout_s: float = 10.0,
) -> Session:  # fmt: skip
    """Attach to a job: the only one, or the one that `job` (id or run id) or `pids` (a rank's or the launcher's) name.

    `ranks` limits it to some. Raises an AttachError; the job is then as it was.
    """
    began = time.monotonic()
    chosen = _choose(job, pids)
    processes = _on_this_host(chosen, ranks)
    records = _bring_up(processes, timeout_s)
    session = Session(records, timeout_s=timeout_s)
    try:
        _greet(session, lease_s, on_disconnect, timeout_s)
    except BaseException:
        session.timeout_s = min(timeout_s, _WITHDRAW_S)
        session.detach()
        raise
    session.job = _summarize(chosen, session, time.monotonic() - began)
    return session


def _choose(name: str | None, pids: Sequence[int]) -> Job:
    jobs = find_jobs()
    if pids:
        return _job_of([resolve_pid(pid, jobs) for pid in pids])
    if name is not None:
        matching = [job for job in jobs if job.id == name or job.ranks[0].run_id == name or job.script == name]
        matching = matching or [job for job in jobs if job.id.startswith(name)]
        if len(matching) == 1:
            return matching[0]
        if not matching:
            raise NoJob(f"No job {name!r} here.{_list_choices(jobs)}")
        jobs = matching
    if not jobs:
        raise NoJob(
            "No distributed job of yours runs on this host. A job is found by its ranks' environment (RANK,"
            " WORLD_SIZE): start it with torchrun or `python -m distdbg run`, or name a process with --pid."
        )
    if len(jobs) > 1:
        raise NoJob(_list_choices(jobs).strip())
    return jobs[0]


def _job_of(resolved: Sequence[Job]) -> Job:
    """The job that all the pids belong to; or are, where their environment does not tell (mp.spawn)."""
    found = {job.id: job for job in resolved}
    first, *others = found.values()
    if not others:
        return first
    if any(job.host_ranks for job in found.values()):
        raise NoJob(f"These pids belong to {len(found)} jobs ({', '.join(found)}): name one of them.")
    launchers = {pid: None for job in found.values() for pid in job.launcher_pids}
    return Job(first.id, tuple(process for job in found.values() for process in job.ranks), tuple(launchers))


def _list_choices(jobs: Sequence[Job]) -> str:
    if not jobs:
        return ""
    records = _records()
    listings = [_listing(job, records) for job in jobs]
    rows = [
        f"  {job.id}  {job.script}   {len(job.pids)} ranks   pids {format_ranks(job.pids)}   "
        f"{_uptime(job.uptime_s)}   {'agent on' if job.is_prepared else 'not prepared'}"
        for job in listings
    ]
    count = {1: "One job", 2: "Two jobs", 3: "Three jobs"}.get(len(jobs), f"{len(jobs)} jobs")
    return "\n".join([f" {count} here:", *rows, f"Choose one: python -m distdbg attach {listings[0].id}"])


def _uptime(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _listing(job: Job, records: dict[int, Record]) -> JobListing:
    pids = tuple(process.pid for process in job.ranks)
    return JobListing(
        id=job.id,
        script=job.script,
        ranks=frozenset(job.host_ranks),
        pids=pids,
        uptime_s=max(0.0, time.time() - job.started),
        is_prepared=all(pid in records and records[pid].is_prepared for pid in pids),
        run_id=job.ranks[0].run_id or "",
        world_size=job.world_size or len(pids),
    )


def _on_this_host(job: Job, ranks: str | None) -> list[RankProcess]:
    others = {process.uid for process in job.ranks} - {os.getuid()}
    if others:
        uid = min(others)
        name = describe_user(uid)
        login = name if " " not in name else f"'#{uid}'"
        raise NotPermitted(
            f"Job {job.id} belongs to {name}, and you are {describe_user(os.getuid())}. distdbg attaches to jobs of the"
            f" same user only; the job was not touched.\nRun it as that user:"
            f" sudo -u {login} python -m distdbg attach {job.id}"
        )
    if ranks is None:
        return list(job.ranks)
    if not job.host_ranks:
        raise UsageError("--ranks needs ranks that their environment names: give the --pid of those you want instead.")
    wanted = parse_ranks(ranks, RankContext(ranks=frozenset(job.host_ranks)))
    return [process for process in job.ranks if process.rank in wanted]


def _records() -> dict[int, Record]:
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


def _bring_up(processes: Sequence[RankProcess], timeout_s: float) -> dict[int, Record]:
    """The records of all ranks' agents, injected where there was none."""
    directory = runtime_dir()
    known = {pid: record for pid, record in _records().items() if not record.error}
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
    deadline = time.monotonic() + _WITHDRAW_S
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
        Session(dict(enumerate(agents)), timeout_s=_WITHDRAW_S).detach()


def _greet(session: Session, lease_s: float, on_disconnect: str, timeout_s: float) -> None:
    hello = Hello(client_pid=os.getpid(), lease_s=lease_s, on_disconnect=on_disconnect)
    gathered = session.ask(hello, session.alive, timeout_s=timeout_s)
    for rank, failure in sorted(gathered.failures.items()):
        raise AttachError(f"Rank {rank}: {failure.message}")
    if gathered.missing:
        who = "; ".join(f"rank {rank}: {why}" for rank, why in sorted(gathered.missing.items()))
        if all(why == "gone" for why in gathered.missing.values()):
            raise ProcessGone(f"The job ended while attaching ({who}).")
        raise InjectionFailed(f"Not all ranks answered within {timeout_s:g} s ({who}). Nothing is left in the others.")
    session.adopt({rank: reply for rank, reply in gathered.replies.items() if isinstance(reply, Welcome)})


def _summarize(job: Job, session: Session, took_s: float) -> JobSummary:
    first = session.welcomes[min(session.welcomes)]
    there = frozenset(session.welcomes)
    return JobSummary(
        id=job.id,
        script=first.script or job.script,
        run_id=first.run_id,
        world_size=first.world_size,
        hostnames=tuple(dict.fromkeys(welcome.hostname for welcome in session.welcomes.values())),
        backend=first.backend,
        torch_version=first.torch_version,
        is_prepared=first.is_prepared,
        attached_in_s=took_s,
        missing_ranks=frozenset(range(first.world_size)) - there,
    )
