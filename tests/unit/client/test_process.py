"""Jobs are found by what `/proc` says, here a made-up one."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from distdbg.client.process import Job, find_jobs, resolve_pid, script_of
from distdbg.errors import (
    AmbiguousName,
    InjectionFailed,
    NotDistributed,
    NotPermitted,
    NotPython,
    ProcessGone,
)

PYTHON = "/usr/bin/python3.11"
LIBTORCH = "/site-packages/torch/lib/libtorch_cpu.so"


@dataclass
class Host:
    """A `/proc` to which processes are added."""

    proc: Path
    ticks: int = field(default=0)

    def __post_init__(self) -> None:
        (self.proc / "stat").write_text("cpu 1 2 3\nbtime 1000000\n")

    def add(
        self,
        pid: int,
        command: str,
        *,
        parent: int = 1,
        environ: dict[str, str] | None = None,
        executable: str | None = None,
        has_torch: bool = True,
        state: str = "S",
        tracer: int = 0,
    ) -> None:
        folder = self.proc / str(pid)
        folder.mkdir()
        words = command.split()
        if executable is None:
            executable = PYTHON if words[0].startswith("python") else f"/usr/bin/{words[0]}"
        libraries = [executable] + [LIBTORCH] * (has_torch and executable == PYTHON)
        self.ticks += os.sysconf("SC_CLK_TCK")
        after_name = [state, str(parent), *["0"] * 17, str(self.ticks), "0"]
        (folder / "stat").write_text(f"{pid} (a (b) c) {' '.join(after_name)}\n")
        (folder / "status").write_text(
            f"Name:\t{words[0]}\nState:\t{state} (some)\nPPid:\t{parent}\nTracerPid:\t{tracer}\n"
            f"Uid:\t{os.geteuid()}\t0\t0\t0\nCapEff:\t0\n"
        )
        (folder / "environ").write_bytes(b"".join(f"{k}={v}\0".encode() for k, v in (environ or {}).items()))
        (folder / "cmdline").write_bytes("\0".join(words).encode() + b"\0")
        (folder / "exe").symlink_to(executable)
        lines = [f"{n + 1:x}000-{n + 2:x}000 r-xp 00000000 08:01 1 {path}" for n, path in enumerate(libraries)]
        (folder / "maps").write_text("\n".join(lines) + "\n")

    def add_torchrun(self, pid: int, *, ranks: range, script: str = "train.py", **environ: str) -> None:
        self.add(pid, f"python /bin/torchrun --nproc-per-node 2 {script}")
        for local, rank in enumerate(ranks):
            self.add(
                pid + 1 + local,
                f"python -u {script}",
                parent=pid,
                environ=torchrun_environ(rank, LOCAL_RANK=str(local), LOCAL_WORLD_SIZE=str(len(ranks)), **environ),
            )

    def find(self) -> list[Job]:
        return find_jobs(str(self.proc))

    def resolve(self, pid: int) -> Job:
        return resolve_pid(pid, self.find(), str(self.proc))


def torchrun_environ(rank: int, **more: str) -> dict[str, str]:
    common = {
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": "29500",
        "TORCHELASTIC_RUN_ID": "none",
    }
    return {"RANK": str(rank), **common, **more}


def pids(job: Job) -> list[int]:
    return [process.pid for process in job.ranks]


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def test_ranks_of_torchrun_are_one_job(host: Host) -> None:
    host.add_torchrun(10, ranks=range(2))
    (job,) = host.find()
    assert pids(job) == [11, 12]
    assert job.host_ranks == (0, 1)
    assert job.missing_ranks == ()
    assert job.launcher_pids == (10,)
    assert job.script == "train.py"
    assert job.started == 1000002.0
    assert (job.ranks[1].local_rank, job.ranks[1].local_world_size) == (1, 2)
    assert (job.ranks[1].master_port, job.ranks[1].run_id) == (29500, "none")
    assert len(job.id) == 4
    assert host.find()[0].id == job.id


def test_nothing_runs(host: Host) -> None:
    host.add(5, "bash")
    assert host.find() == []


def test_ranks_on_other_hosts_are_missing(host: Host) -> None:
    host.add_torchrun(10, ranks=range(2, 4), WORLD_SIZE="4")
    (job,) = host.find()
    assert job.missing_ranks == (0, 1)


def test_children_of_a_rank_are_not_ranks(host: Host) -> None:
    host.add_torchrun(10, ranks=range(2))
    host.add(20, "python -u train.py", parent=11, environ=torchrun_environ(0))
    host.add(21, "python -c spawn_main", parent=11, environ=torchrun_environ(0), has_torch=False)
    host.add(22, "sh -c nvidia-smi", parent=12, environ=torchrun_environ(1))
    host.add(23, "python helper.py", parent=22, environ=torchrun_environ(1))
    (job,) = host.find()
    assert pids(job) == [11, 12]


def test_a_shell_between_launcher_and_rank(host: Host) -> None:
    host.add(10, "python /bin/torchrun --no-python run.sh")
    for rank in range(2):
        host.add(20 + rank, "bash run.sh", parent=10, environ=torchrun_environ(rank))
        host.add(30 + rank, "python train.py", parent=20 + rank, environ=torchrun_environ(rank))
    (job,) = host.find()
    assert pids(job) == [30, 31]
    assert job.launcher_pids == (10,)


def test_a_wrapper_without_torch_is_not_the_rank(host: Host) -> None:
    host.add(10, "python /bin/torchrun wrapper.py")
    host.add(11, "python wrapper.py", parent=10, environ=torchrun_environ(0), has_torch=False)
    host.add(12, "python train.py", parent=11, environ=torchrun_environ(0))
    host.add(13, "python train.py", parent=12, environ=torchrun_environ(0))
    (job,) = host.find()
    assert pids(job) == [12]


def test_a_rank_that_has_not_imported_torch_yet(host: Host) -> None:
    host.add(11, "python train.py", environ=torchrun_environ(0), has_torch=False)
    (job,) = host.find()
    assert pids(job) == [11]


def test_torchrun_in_a_pod_that_numbers_nodes(host: Host) -> None:
    node = {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "pod-0", "MASTER_PORT": "23456"}
    host.add(1, "bash start.sh", parent=0, environ=node)
    host.add(10, "python -m my.launcher train.py", parent=1, environ=node)
    for local in range(2):
        environ = torchrun_environ(2 + local, WORLD_SIZE="4", MASTER_ADDR="pod-0")
        host.add(11 + local, "python train.py", parent=10, environ=environ)
    (job,) = host.find()
    assert job.host_ranks == (2, 3)


def test_ranks_started_by_hand_from_two_shells(host: Host) -> None:
    environ = {"WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": "4000"}
    host.add(10, "python train.py", parent=1, environ={**environ, "RANK": "0"})
    host.add(20, "python train.py", parent=2, environ={**environ, "RANK": "1"})
    (job,) = host.find()
    assert pids(job) == [10, 20]
    assert job.launcher_pids == (1, 2)
    assert job.ranks[0].run_id is None


def test_two_jobs_with_the_same_rendezvous_in_two_containers(host: Host) -> None:
    host.add_torchrun(10, ranks=range(2))
    host.add_torchrun(20, ranks=range(2))
    assert [pids(job) for job in host.find()] == [[11, 12], [21, 22]]
    assert len({job.id for job in host.find()}) == 2


def test_resolve_a_rank_its_worker_its_launcher_and_what_started_that(host: Host) -> None:
    host.add(5, "bash")
    host.add_torchrun(10, ranks=range(2))
    host.add_torchrun(20, ranks=range(2), MASTER_PORT="1")
    host.add(30, "python train.py", parent=21, environ=torchrun_environ(0, MASTER_PORT="1"))
    assert [pids(host.resolve(pid)) for pid in (12, 10, 20, 30)] == [[11, 12], [11, 12], [21, 22], [21, 22]]


def test_two_jobs_below_one_pid_are_not_guessed_between(host: Host) -> None:
    host.add(1, "systemd", parent=0)
    host.add_torchrun(10, ranks=range(2))
    host.add_torchrun(20, ranks=range(2), MASTER_PORT="1")
    with pytest.raises(AmbiguousName, match="2 jobs run below pid 1"):
        host.resolve(1)


def test_a_process_that_sets_its_own_environment_has_no_rank_yet(host: Host) -> None:
    host.add(10, "python -m pkg.spawn")
    job = host.resolve(10)
    assert (job.ranks[0].rank, job.script, job.host_ranks) == (None, "pkg.spawn", ())


def test_what_cannot_be_a_rank_is_told_apart(host: Host) -> None:
    host.add(10, "sleep 100")
    host.add(11, "python plain.py", has_torch=False)
    host.add(12, "python ended.py", state="Z")
    host.add(13, "python stopped.py", state="T")
    host.add(15, "python -u /bin/torchrun train.py")
    host.add(14, "python traced.py", tracer=10)
    with pytest.raises(NotPython, match=r"Process 10 \(sleep\) is not a Python process"):
        host.resolve(10)
    with pytest.raises(NotDistributed, match="a Python process without torch in it"):
        host.resolve(11)
    with pytest.raises(NotDistributed, match=r"a launcher \(torchrun\) that has no ranks yet"):
        host.resolve(15)
    with pytest.raises(ProcessGone, match="zombie"):
        host.resolve(12)
    with pytest.raises(InjectionFailed, match="kill -CONT 13"):
        host.resolve(13)
    with pytest.raises(NotPermitted, match=r"pid 10 \(sleep\) already traces it"):
        host.resolve(14)
    with pytest.raises(ProcessGone, match="no process 99"):
        host.resolve(99)


@pytest.mark.parametrize(
    ("command", "script"),
    [
        ("python -u dir/train.py --lr 1", "train.py"),
        ("python -m pkg.mod --x", "pkg.mod"),
        ("python -X dev -W ignore train.py", "train.py"),
        ("python -c print()", "-c"),
        ("python -um pkg.mod", "pkg.mod"),
        ("python", "python"),
        ("./train", "train"),
    ],
)
def test_script_of_a_command_line(command: str, script: str) -> None:
    assert script_of(command.split()) == script
