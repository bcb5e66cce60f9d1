"""From a job's name to a session over its ranks."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass

from distdbg.client.bring_up import WITHDRAW_S, bring_up, list_agents
from distdbg.client.process import Job, RankProcess, find_jobs, resolve_pid
from distdbg.client.procfs import describe_user
from distdbg.client.session import JobSummary, Session, TimedOut
from distdbg.errors import AttachError, InjectionFailed, NoJob, NotPermitted, ProcessGone, UsageError
from distdbg.schema.message import Hello, Welcome
from distdbg.schema.ranks import RankContext, Ranks, format_ranks, parse_ranks
from distdbg.wire.runtime import Record

_BREAKPOINT_S = 2.0
"""How long a console waits for ranks that wait for it in `distdbg.breakpoint()`: they park when it has come."""


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
    records = list_agents()
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
    records = bring_up(processes, timeout_s)
    session = Session(records, timeout_s=timeout_s)
    try:
        _greet(session, lease_s, on_disconnect, timeout_s)
    except BaseException:
        session.timeout_s = min(timeout_s, WITHDRAW_S)
        session.detach()
        raise
    if any(welcome.is_about_to_stop for welcome in session.welcomes.values()):
        with contextlib.suppress(TimedOut):
            session.wait(_BREAKPOINT_S)
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
    records = list_agents()
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
