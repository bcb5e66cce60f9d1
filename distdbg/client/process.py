"""Find the jobs of this host from outside: rank processes, by the environment their launcher gave them.

Everything is read from `/proc`; nothing is opened in a process and no torch is imported. What a script sets
in its own `os.environ` (mp.spawn) is not visible here: such a process is let through by pid, and its agent
tells its rank.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from distdbg.client import procfs
from distdbg.client.inject.permission import check_state, explain_refusal
from distdbg.client.inject.target import is_python
from distdbg.errors import AmbiguousName, NotDistributed, NotPython, ProcessGone

_LONG_OPTIONS_WITH_ARGUMENT = {"--check-hash-based-pycs"}
_LAUNCHERS = {"torchrun", "torch.distributed.run", "torch.distributed.launch", "accelerate", "deepspeed"}


@dataclass(frozen=True)
class RankProcess:
    """One rank on this host. Numbers are None where the environment does not tell them."""

    pid: int
    rank: int | None
    world_size: int | None
    local_rank: int | None
    local_world_size: int | None
    run_id: str | None
    master_addr: str | None
    master_port: int | None
    script: str
    started: float
    uid: int
    parent_pid: int
    launcher_pid: int
    """The nearest ancestor that is not part of the rank itself: torchrun, mpirun, a shell."""
    is_python: bool
    has_torch: bool

    @property
    def rendezvous(self) -> tuple[str | None, str | None, int | None, int | None]:
        """What all ranks of a job have in common."""
        return self.run_id, self.master_addr, self.master_port, self.world_size


@dataclass(frozen=True)
class Job:
    """The ranks of one run on this host."""

    id: str
    ranks: tuple[RankProcess, ...]
    launcher_pids: tuple[int, ...]

    @property
    def script(self) -> str:
        return self.ranks[0].script

    @property
    def started(self) -> float:
        return min(process.started for process in self.ranks)

    @property
    def world_size(self) -> int | None:
        return self.ranks[0].world_size

    @property
    def host_ranks(self) -> tuple[int, ...]:
        return tuple(process.rank for process in self.ranks if process.rank is not None)

    @property
    def missing_ranks(self) -> tuple[int, ...]:
        """Ranks that are not on this host (or have ended)."""
        return tuple(sorted(set(range(self.world_size or 0)) - set(self.host_ranks)))


def find_jobs(proc: str = procfs.PROC) -> list[Job]:
    """The jobs with a rank on this host, oldest first: the user's own, or everybody's for root."""
    marked = _Marked(proc)
    for pid in procfs.list_pids(proc):
        if pid != os.getpid() or proc != procfs.PROC:  # in a pod we may have a rank's environment ourselves
            marked.read(pid)
    return sorted(_group(marked.find_ranks()), key=lambda job: (job.started, job.id))


def resolve_pid(pid: int, jobs: Iterable[Job], proc: str = procfs.PROC) -> Job:
    """The job that `pid` belongs to: a rank, a child of one (a DataLoader worker), or a launcher above some.

    Raises ProcessGone, NotPermitted, NotPython, NotDistributed, or AmbiguousName where two jobs run below
    `pid`.
    """
    jobs = list(jobs)
    job_of_rank = {process.pid: job for job in jobs for process in job.ranks}
    for ancestor in (pid, *_ancestors(pid, proc)):
        if ancestor in job_of_rank:
            return job_of_rank[ancestor]
    below = {job.id: job for rank, job in job_of_rank.items() if pid in _ancestors(rank, proc)}
    if len(below) == 1:
        return below.popitem()[1]
    if below:
        raise AmbiguousName(f"{len(below)} jobs run below pid {pid}: name one of {', '.join(sorted(below))}.")
    process = _read_unranked(pid, proc)
    return Job(_job_id(process), (process,), (process.launcher_pid,))


def find_torch_children(pid: int, proc: str = procfs.PROC) -> list[int]:
    """Children of `pid` that are Python processes with torch in them: what mp.spawn starts, or DataLoader workers."""
    found = []
    for child in procfs.list_pids(proc):
        with contextlib.suppress(OSError):
            if procfs.read_status(child, proc).parent_pid == pid:
                process = _read_process(child, {}, proc)
                found += [child] if process.is_python and process.has_torch else []
    return found


def _read_unranked(pid: int, proc: str) -> RankProcess:
    """A process whose environment names no rank, after making sure that it can be one."""
    status = check_state(pid, proc)
    try:
        names = procfs.read_mapped_names(pid, proc)
        process = _read_process(pid, procfs.read_environ(pid, proc), proc)
    except PermissionError as error:
        raise explain_refusal(pid, proc) from error
    except (FileNotFoundError, ProcessLookupError) as error:
        raise ProcessGone(f"Process {pid} ended while it was looked at.") from error
    if not is_python(procfs.read_executable(pid, proc), names):
        raise NotPython(f"Process {pid} ({status.name}) is not a Python process: there is no interpreter in it.")
    if process.script in _LAUNCHERS:
        raise NotDistributed(
            f"Process {pid} is a launcher ({process.script}) that has no ranks yet, or no more."
            " Try again once they run."
        )
    if not process.has_torch:
        raise NotDistributed(
            f"Process {pid} ({status.name}) is a Python process without torch in it, so it is no rank"
            " of a job. `python -m distdbg jobs` lists the jobs of this host."
        )
    return process


class _Marked:
    """All processes that carry a rank's environment: ranks, and what inherited it from them."""

    def __init__(self, proc: str) -> None:
        self._proc = proc
        self._processes: dict[int, RankProcess] = {}

    def read(self, pid: int) -> None:
        """Look at one process; one that is not ours, or just ended, is none of our business."""
        try:
            environ = procfs.read_environ(pid, self._proc)
            if _number(environ, "RANK") is not None and _number(environ, "WORLD_SIZE") is not None:
                process = _read_process(pid, environ, self._proc)
                if process.script != "distdbg":  # another console
                    self._processes[pid] = process
        except OSError:
            return

    def find_ranks(self) -> Iterator[RankProcess]:
        """Of each chain of processes with one rank's environment, the one that trains."""
        launchers = {pid for pid, process in self._processes.items() if self._is_launcher(process)}
        chosen: dict[object, RankProcess] = {}
        for pid in sorted(self._processes.keys() - launchers):
            chain = [self._processes[p] for p in self._chain(pid) if p not in launchers]
            python = [process for process in chain if process.is_python]
            if not python:
                continue
            # The topmost trains, and its children help (DataLoader workers); unless it is a wrapper without
            # torch.
            top = next((process for process in reversed(python) if process.has_torch), python[-1])
            chosen.setdefault(top.pid, self._with_launcher(top, chain[-1].parent_pid))
        yield from self._without_wrappers(chosen.values())

    def _without_wrappers(self, ranks: Iterable[RankProcess]) -> Iterator[RankProcess]:
        ranks = list(ranks)
        wrappers = {ancestor for process in ranks for ancestor in self._chain(process.pid) if ancestor != process.pid}
        return (process for process in ranks if process.pid not in wrappers)

    def _chain(self, pid: int) -> list[int]:
        """`pid` and its ancestors as far as they belong to the same rank."""
        first = self._processes[pid]
        chain: list[int] = []
        while pid in self._processes and pid not in chain:
            process = self._processes[pid]
            if (process.rank, process.rendezvous) != (first.rank, first.rendezvous):
                break
            chain.append(pid)
            pid = process.parent_pid
        return chain

    def _is_launcher(self, process: RankProcess) -> bool:
        # Kubernetes operators give each pod RANK and WORLD_SIZE and mean nodes; the torchrun in it means
        # processes.
        return process.script in _LAUNCHERS or any(
            child.run_id is not None and process.run_id is None and child.parent_pid == process.pid
            for child in self._processes.values()
        )

    @staticmethod
    def _with_launcher(process: RankProcess, launcher_pid: int) -> RankProcess:
        fields = {name: getattr(process, name) for name in process.__dataclass_fields__}
        return RankProcess(**{**fields, "launcher_pid": launcher_pid})


def _group(ranks: Iterable[RankProcess]) -> Iterator[Job]:
    """Ranks with one rendezvous are one job, also under several launchers (one per node, on one machine).

    Unless two claim the same rank: then they are jobs in separate network namespaces, told apart by launcher.
    """
    by_rendezvous: defaultdict[object, list[RankProcess]] = defaultdict(list)
    for process in ranks:
        by_rendezvous[process.rendezvous].append(process)
    for together in by_rendezvous.values():
        numbers = [process.rank for process in together]
        if len(set(numbers)) == len(numbers):
            yield _make_job(together)
            continue
        by_launcher: defaultdict[int, list[RankProcess]] = defaultdict(list)
        for process in together:
            by_launcher[process.launcher_pid].append(process)
        yield from map(_make_job, by_launcher.values())


def _make_job(processes: list[RankProcess]) -> Job:
    ranks = tuple(sorted(processes, key=lambda process: (process.rank or 0, process.started)))
    launchers = tuple(sorted({process.launcher_pid for process in ranks}))
    return Job(_job_id(min(ranks, key=lambda process: process.launcher_pid)), ranks, launchers)


def _job_id(process: RankProcess) -> str:
    """Four hex digits that stay the same while the job runs, restarts of its ranks included."""
    anchor = process.launcher_pid if process.rank is not None else process.pid
    return hashlib.sha256(f"{process.run_id}|{process.master_port}|{anchor}".encode()).hexdigest()[:4]


def _read_process(pid: int, environ: dict[str, str], proc: str) -> RankProcess:
    status = procfs.read_status(pid, proc)
    try:
        names = procfs.read_mapped_names(pid, proc)
    except PermissionError:
        # The environment of an undumpable process may be readable where its memory map is not.
        names = set()
    return RankProcess(
        pid=pid,
        rank=_number(environ, "RANK"),
        world_size=_number(environ, "WORLD_SIZE"),
        local_rank=_number(environ, "LOCAL_RANK"),
        local_world_size=_number(environ, "LOCAL_WORLD_SIZE"),
        run_id=environ.get("TORCHELASTIC_RUN_ID"),
        master_addr=environ.get("MASTER_ADDR"),
        master_port=_number(environ, "MASTER_PORT"),
        script=script_of(procfs.read_command_line(pid, proc)),
        started=procfs.read_start_time(pid, proc),
        uid=status.uid,
        parent_pid=status.parent_pid,
        launcher_pid=status.parent_pid,
        is_python=is_python(procfs.read_executable(pid, proc), names),
        has_torch=any(name.startswith("libtorch") for name in names),
    )


def script_of(command_line: list[str]) -> str:
    """'train.py' of `python -u dir/train.py …`, 'pkg.mod' of `python -m pkg.mod …`, '-c' of `python -c …`."""
    arguments = iter(command_line[1:])
    for argument in arguments:
        if argument in _LONG_OPTIONS_WITH_ARGUMENT:
            next(arguments, None)
        elif not argument.startswith("-"):
            return os.path.basename(argument)
        elif not argument.startswith("--"):
            # One-letter options may be run together, as in `-um pkg.mod`; the first that takes an argument ends it.
            letters = argument[1:]
            found = next((index for index, letter in enumerate(letters) if letter in "cmWX"), None)
            if found is None:
                continue
            taken = letters[found + 1 :] or next(arguments, "")
            if letters[found] in "cm":
                return taken if letters[found] == "m" else "-c"
    return os.path.basename(command_line[0]) if command_line else ""


def _ancestors(pid: int, proc: str) -> Iterator[int]:
    seen = {0, pid}
    while True:
        try:
            pid = procfs.read_status(pid, proc).parent_pid
        except OSError:
            return
        if pid in seen:
            return
        seen.add(pid)
        yield pid


def _number(environ: dict[str, str], name: str) -> int | None:
    text = environ.get(name, "")
    return int(text) if text.isdecimal() else None
