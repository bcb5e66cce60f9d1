"""The prepared doors: `distdbg run`, DISTDBG=1, `distdbg.listen()` and `distdbg.breakpoint()`."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from distdbg.client.launch import SITE
from tests.bench import Job, console
from tests.bench.job import ROOT

Listening = Callable[..., AbstractContextManager[Job]]


@pytest.fixture
def listening(jobs: Any, tmp_path: Path) -> Listening:
    """The job `listening` on two ranks, which ends by itself at the end of the block."""

    @contextmanager
    def start(env: dict[str, str], ready: str = "step 0", **options: Any) -> Iterator[Job]:
        end = tmp_path / "end"
        with jobs("listening", nproc=2, env={"END": str(end), **env}, ready=ready, **options) as job:
            yield job
            end.touch()
            assert job.wait_for_end() == 0, job.log

    return start


def num_agents(job: Job) -> int:
    """How many agents are published."""
    return len(list(Path(job.env["DISTDBG_RUNTIME_DIR"], "distdbg").glob("*.json")))


def test_run_is_torchrun_with_agents(listening: Listening) -> None:
    with listening({}, launcher=("distdbg", "run")) as job:
        assert num_agents(job) == 2
        result = console(job, "pause", "print step")
        assert result.returncode == 0, result.stdout + result.stderr
        job.wait_for_progress()
        assert num_agents(job) == 2, "a prepared agent stays when its console leaves"


def test_run_has_the_scripts_exit_status(tmp_path: Path) -> None:
    script = tmp_path / "fails.py"
    script.write_text("import sys; sys.exit(3)\n")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    plain, ours = (
        subprocess.run([sys.executable, "-m", *launcher, script], env=environment, capture_output=True, timeout=120)
        for launcher in (("torch.distributed.run",), ("distdbg", "run"))
    )
    assert plain.returncode == ours.returncode != 0
    assert b"exitcode  : 3" in ours.stderr


def test_environment_alone(listening: Listening) -> None:
    with listening({"DISTDBG": "1", "PYTHONPATH": f"{SITE}{os.pathsep}{ROOT}"}) as job:
        assert num_agents(job) == 2


@pytest.mark.parametrize("when", ["before", "after"])
def test_listen(listening: Listening, when: str) -> None:
    with listening({"LISTEN": when}) as job:
        assert num_agents(job) == 2
        result = console(job, "status")
        assert result.returncode == 0, result.stdout + result.stderr


def test_breakpoint_waits_for_a_console_and_goes_on(listening: Listening) -> None:
    with listening({"BREAK": "3"}, ready="distdbg: waiting at .*listening.py") as job:
        result = console(job, "where", "print step")
        assert job.log.count("distdbg: waiting at") == 1, "once per job"
        assert result.returncode == 0, result.stdout + result.stderr
        assert result.data("where")[0]["function"] == "main"
        assert result.data("print step")["repr"] == "3"
        job.wait_for("step 4")
