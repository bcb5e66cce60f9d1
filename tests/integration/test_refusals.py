"""No way in: one clear sentence, the right exit status, a job that goes on, and nothing left in it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from distdbg.__main__ import main
from distdbg.client import attach as attaching
from distdbg.client import bring_up
from distdbg.client.inject import Injection, inject
from distdbg.client.process import find_jobs
from distdbg.errors import InjectionFailed, NoJob, ProcessGone
from tests.bench import Job, run_job
from tests.bench.job import ROOT
from tests.bench.script import distdbg, run_script

BY_HAND = ROOT / "tests" / "jobs" / "by_hand.py"
NOBODY = 65534
AS_NOBODY = """
import os, sys
import distdbg.client.inject, distdbg.console.attach, distdbg.console.prompt, distdbg.__main__
os.setgroups([])
os.setresgid(65534, 65534, 65534)
os.setresuid(65534, 65534, 65534)
sys.exit(distdbg.__main__.main(sys.argv[1:]))
"""
"""A console of user 65534, who could not even read this file: all that it needs is imported first."""
STEPPING = """
import itertools, time
for step in itertools.count():
    print("step", step, flush=True)
    time.sleep(0.05)
"""
is_root = pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Job]:
    """One job of three ranks for all that leave it unharmed."""
    with run_job("wrapped", nproc=3, runtime_dir=tmp_path_factory.mktemp("job")) as running:
        yield running


@pytest.fixture(autouse=True)
def unharmed(job: Job) -> Iterator[None]:
    """After every refusal: no agent's file, not one thread more, and further steps."""
    before = num_threads(job)
    yield
    assert agent_files(job) == []
    deadline = time.monotonic() + 20
    while num_threads(job) != before:  # one that was on its way sees that it is late, and ends
        assert time.monotonic() < deadline, (before, num_threads(job))
        time.sleep(0.05)
    job.wait_for_progress()


def agent_files(job: Job) -> list[str]:
    """What agents have published, and not taken away."""
    return sorted(path.name for path in Path(job.env["DISTDBG_RUNTIME_DIR"], "distdbg").glob("*"))


def num_threads(job: Job) -> dict[int, int]:
    """Rank -> its threads."""
    return {rank: len(os.listdir(f"/proc/{pid}/task")) for rank, pid in job.pids.items()}


def refusal(job: Job, *words: str, status: int) -> str:
    """What `attach WORDS…` says on standard error: short, no traceback, nothing on standard output."""
    done = distdbg(job.env, "attach", *words, "--batch", "-ex", "status")
    assert done.returncode == status, (done.returncode, done.stdout, done.stderr)
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) <= 8, done.stderr
    return done.stderr


def test_no_job(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(attaching, "find_jobs", list)  # the tests' neighbours may run some
    assert main(["attach"]) == 4
    assert capsys.readouterr().err.startswith("No distributed job of yours runs on this host.")
    assert main(["jobs"]) == 0
    assert capsys.readouterr().out == "No torch.distributed job of yours runs on this machine.\n"


def test_two_jobs_and_a_name_that_is_none(job: Job, tmp_path: Path) -> None:
    env = {"RANK": "0", "WORLD_SIZE": "1", "MASTER_PORT": "1"}
    with run_script(sys.executable, str(BY_HAND), runtime_dir=tmp_path, env=env) as other:
        jobs = find_jobs()
        mine = next(found for found in jobs if job.pids[0] in [process.pid for process in found.ranks])
        others = next(found for found in jobs if found.ranks[0].pid == other.process.pid)
        said = refusal_of_many(job, status=4)
        assert f"jobs here:\n  {jobs[0].id}  " in said
        assert f"  {mine.id}  wrapped.py   3 ranks   pids " in said and f"  {others.id}  by_hand.py   1 " in said
        assert said.splitlines()[-1] == f"Choose one: python -m distdbg attach {jobs[0].id}"

        assert refusal_of_many(job, "no-such-job", status=4).startswith("No job 'no-such-job' here.")
        two = refusal(job, "--pid", str(job.pids[1]), "--pid", str(other.process.pid), status=4)
        assert two.startswith("These pids belong to 2 jobs (") and two.endswith(": name one of them.\n")
        other.wait_for_progress()


def refusal_of_many(job: Job, *words: str, status: int) -> str:
    """As `refusal`, where every job of the machine is listed."""
    done = distdbg(job.env, "attach", *words, "--batch")
    assert (done.returncode, done.stdout) == (status, ""), done.stderr
    return done.stderr


def test_processes_that_are_no_rank(job: Job, tmp_path: Path) -> None:
    shell = "n=0; while :; do echo step $n; n=$((n+1)); sleep 0.1; done"
    torch = "import torch.distributed\n" + STEPPING
    python = (sys.executable, "-c")
    with ExitStack() as stack:
        for command, said in (
            (("sh", "-c", shell), "is not a Python process: there is no interpreter in it."),
            ((*python, STEPPING), "is a Python process without torch in it, so it is no rank of a job."),
            ((*python, torch), "has no torch.distributed process group (yet)."),
        ):
            other = stack.enter_context(run_script(*command, runtime_dir=tmp_path / "other", name=str(len(said))))
            env = {**job.env, "DISTDBG_RUNTIME_DIR": other.env["DISTDBG_RUNTIME_DIR"]}
            done = distdbg(env, "attach", "--pid", str(other.launcher_pid), "--batch")
            assert (done.returncode, done.stdout) == (4, "")
            assert said in done.stderr.splitlines()[0] and f"{other.launcher_pid} " in done.stderr, done.stderr
            assert agent_files(other) == []
            other.wait_for_progress()
        other.process.kill()
        other.process.wait()
        gone = refusal(job, "--pid", str(other.launcher_pid), status=4)
        assert gone.startswith(f"There is no process {other.launcher_pid} on this host.")


@is_root
def test_another_users_job(job: Job, tmp_path: Path) -> None:
    command = (sys.executable, "-c", AS_NOBODY, "attach", "--batch")
    done = subprocess.run(command, env=job.env, capture_output=True, text=True, timeout=60, cwd=ROOT)
    assert (done.returncode, done.stdout) == (4, ""), done.stderr
    assert done.stderr.startswith("No distributed job of yours runs on this host.")
    command = (*command, "--pid", str(job.pids[1]))
    done = subprocess.run(command, env=job.env, capture_output=True, text=True, timeout=60, cwd=ROOT)
    assert (done.returncode, done.stdout) == (5, ""), done.stderr
    assert "it belongs to root, and you are nobody. The job was not touched.\nAttach as root." in done.stderr

    env = {"RANK": "0", "WORLD_SIZE": "1", "MASTER_PORT": "2"}
    with run_script(sys.executable, str(BY_HAND), str(NOBODY), runtime_dir=tmp_path, env=env) as theirs:
        said = refusal(job, "--pid", str(theirs.launcher_pid), status=5)
        assert " belongs to nobody, and you are root. " in said
        assert "Run it as that user: sudo -u nobody python -m distdbg attach " in said
        theirs.wait_for_progress()


def test_a_rank_that_is_stopped_by_a_signal(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISTDBG_RUNTIME_DIR", job.env["DISTDBG_RUNTIME_DIR"])
    pid = job.pids[1]
    try:
        os.kill(pid, signal.SIGSTOP)
        said = refusal(job, "--pid", str(job.launcher_pid), status=4)
        assert said.startswith(f"Process {pid} (") and "is stopped by a signal (SIGSTOP or Ctrl-Z)" in said
        assert agent_files(job) == [], "the agents of the other ranks were on their way and are taken back"

        os.kill(pid, signal.SIGCONT)
        after_injecting(monkeypatch, pid, lambda: os.kill(pid, signal.SIGSTOP))
        with pytest.raises(InjectionFailed) as caught:
            attaching.attach(pids=[job.launcher_pid], timeout_s=1.0)
        assert str(caught.value).startswith(f"pid {pid} did not answer in 1 s: it is stopped by a signal. Nothing is")
        assert agent_files(job) == []
    finally:
        os.kill(pid, signal.SIGCONT)


def after_injecting(monkeypatch: pytest.MonkeyPatch, pid: int, act: Callable[[], Any]) -> None:
    """`act` as soon as the agent is on its way into `pid`, and before it can have come up."""

    def inject_and_act(target: int, code: str) -> Injection:
        if target != pid:
            return inject(target, code)
        done = inject(target, f"import time; time.sleep(1)\n{code}")
        act()
        return done

    monkeypatch.setattr(bring_up, "inject", inject_and_act)


def test_some_ranks_only(job: Job) -> None:
    launcher = ("--pid", str(job.launcher_pid))
    some = distdbg(job.env, "attach", *launcher, "--ranks", "0,2", "--batch", "--json", "-ex", "status")
    assert some.returncode == 0, some.stdout + some.stderr
    (attached,) = [line for line in some.lines if line.get("event") == "attached"]
    assert (attached["ranks"], attached["missing_ranks"], attached["world_size"]) == ([0, 2], [1], 3)
    assert refusal(job, *launcher, "--ranks", "0,3", status=1) == "No rank 3: this job has ranks 0-2.\n"
    assert refusal(job, *launcher, "--ranks", "zero", status=1).startswith("'zero' is no rank set.")


def test_ranks_on_other_hosts_are_named(job: Job, tmp_path: Path) -> None:
    env = {"WORLD_SIZE": "4", "MASTER_ADDR": "first-host", "MASTER_PORT": "3"}
    with ExitStack() as stack:
        ranks = [
            stack.enter_context(
                run_script(
                    sys.executable,
                    str(BY_HAND),
                    runtime_dir=tmp_path,
                    name=f"rank{rank}",
                    ready="step 0",
                    env={**env, "RANK": str(rank)},
                )
            )
            for rank in range(2)
        ]
        first = str(ranks[0].launcher_pid)
        # The console has the rank's environment, as in a pod of Kubernetes, and is no rank for that.
        seen = distdbg(ranks[0].env, "attach", "--pid", first, "--batch", "-ex", "status")
        assert seen.returncode == 0, seen.stderr
        assert "4 ranks" in seen.stdout and "not attached: 2-3\n" in seen.stdout, seen.stdout
        table = distdbg(ranks[0].env, "jobs").stdout
        assert " 0-1 of 4 " in next(line for line in table.splitlines() if first in line), table
        assert agent_files(ranks[0]) == []


def test_ranks_and_jobs_that_end_while_attaching(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISTDBG_RUNTIME_DIR", str(tmp_path))
    with run_job("wrapped", nproc=3, runtime_dir=tmp_path, env={"MODE": "plain"}) as job:
        os.kill(job.launcher_pid, signal.SIGSTOP)  # it would end the others at once
        try:
            after_injecting(monkeypatch, job.pids[1], lambda: os.kill(job.pids[1], signal.SIGKILL))
            with pytest.raises(ProcessGone) as caught:
                attaching.attach(pids=[job.pids[0]], timeout_s=20.0)
            assert str(caught.value) == (
                f"Process {job.pids[1]} ended while attaching; the other ranks were left as they were."
            )
            assert agent_files(job) == []
            job.wait_for_progress()

            both = (job.pids[0], job.pids[2])  # a zombie is no rank any more
            after_injecting(monkeypatch, both[0], lambda: [os.kill(pid, signal.SIGKILL) for pid in both])
            with pytest.raises(ProcessGone):
                attaching.attach(pids=[both[0]], timeout_s=20.0)
        finally:
            os.kill(job.launcher_pid, signal.SIGCONT)
        job.wait_for_end()
        assert agent_files(job) == []
        with pytest.raises((NoJob, ProcessGone)):
            attaching.attach(pids=[job.launcher_pid])
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("distdbg")]
