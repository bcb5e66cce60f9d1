"""The job comes first: the same losses with and without us, nothing left behind, no waiting for a dead console."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from distdbg.client.session import Session
from distdbg.schema.message import Evaluate
from tests.bench import Job, LiveConsole, console, line_of

Jobs = Callable[..., AbstractContextManager[Job]]

SESSION = (
    "break {module}", "continue", "placements {module}", "inspect {weight}", "print x.shape", "print x.sum().item()",
    "step", "next", "finish", "shards {weight}", "watch {weight}", "continue", "pause", "detach",
)  # fmt: skip


@pytest.mark.parametrize(
    ("script", "nproc", "env", "module", "weight"),
    [
        ("transformer_2d", 4, {}, "layer.0.attention", "layer.0.attention.wq.weight"),
        ("wrapped", 2, {"MODE": "ddp"}, "blocks.0", "blocks.0.first.weight"),
        ("wrapped", 2, {"MODE": "fsdp2"}, "blocks.0", "blocks.0.first.weight"),
        ("wrapped", 2, {"MODE": "checkpoint"}, "blocks.0", "blocks.0.first.weight"),
    ],
    ids=["tp+fsdp2", "ddp", "fsdp2", "checkpoint"],
)
def test_losses_are_bit_equal(
    jobs: Jobs, tmp_path: Path, script: str, nproc: int, env: dict[str, str], module: str, weight: str
) -> None:
    steps = {"STEPS": "60", "STEP_SLEEP": "0.05", **env}
    with jobs(script, nproc=nproc, env={**steps, "STEP_SLEEP": "0", "LOSSES": str(tmp_path / "alone")}) as job:
        assert job.wait_for_end() == 0, job.log
    with jobs(script, nproc=nproc, env={**steps, "LOSSES": str(tmp_path / "debugged")}) as job:
        commands = [command.format(module=module, weight=weight) for command in SESSION]
        result = console(job, *commands)
        assert result.returncode == 0, result.stdout + result.stderr
        assert job.wait_for_end() == 0, job.log
    for rank in range(nproc):
        alone = (tmp_path / f"alone.{rank}").read_text().splitlines()
        debugged = (tmp_path / f"debugged.{rank}").read_text().splitlines()
        assert len(alone) == 60
        assert debugged == alone


def test_nothing_is_left_after_detach(jobs: Jobs) -> None:
    with jobs("inventory", nproc=2, env={"STEP_SLEEP": "0.05"}) as job:
        line = f"wrapped.py:{line_of('wrapped', 'forward')}"
        before = _inventory(job)
        result = console(
            job, "break blocks.0", "break blocks.1 backward", "break shared end", "watch head.weight", f"break {line}",
            "continue", "step", "print x.sum()", "continue", "detach", options=(),
        )  # fmt: skip
        assert "Detached: 2 ranks running" in result.stdout, result.stdout + result.stderr
        deadline = time.monotonic() + 10
        while (after := _inventory(job)) != before and time.monotonic() < deadline:
            pass  # the agent's thread leaves right after it has said so
        assert after == before
        job.wait_for_progress()


def _inventory(job: Job) -> list[object]:
    """What the job itself counts when it is asked to by SIGUSR1: hooks, patched objects, threads, files, timeouts."""
    found = []
    for rank, pid in sorted(job.pids.items()):
        mark = len(job.log)
        os.kill(pid, signal.SIGUSR1)
        found.append(json.loads(job.wait_for(rf"^INVENTORY {rank} (.*)$", after=mark).group(1)))
    return found


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP], ids=["kill", "term", "hangup"])
def test_training_goes_on_when_its_console_dies(jobs: Jobs, how: signal.Signals) -> None:
    with jobs("wrapped", nproc=2) as job:
        with _stopped(job, lease_s=1.0) as client:
            mark = len(job.log)
            client.process.send_signal(how)
            client.process.wait(10)
        job.wait_for(r"step \d+", 15, after=mark)
        job.wait_for_progress()
        assert console(job, "status", "detach", options=()).returncode == 0  # and a new one is welcome


def test_a_killed_rank_is_named_and_the_others_can_be_left(jobs: Jobs) -> None:
    with jobs("wrapped", nproc=3, env={"MODE": "plain"}) as job:
        os.kill(job.launcher_pid, signal.SIGSTOP)  # torchrun would end the other two at once
        try:
            with _stopped(job, lease_s=10.0) as client:
                os.kill(job.pids[1], signal.SIGKILL)
                client.wait_for("rank 1|1 .*lost")
                client.type("status")
                client.wait_for("^1 .*lost")
                client.type("print 1 + 1")
                client.wait_for("^0,2 +2")
                client.type("detach")
                client.wait_for("Detached: 2 ranks running")
            job.wait_for_progress()
        finally:
            os.kill(job.launcher_pid, signal.SIGCONT)


def _stopped(job: Job, lease_s: float) -> LiveConsole:
    client = LiveConsole(job, "--lease", str(lease_s), "-ex", "break blocks.0", "-ex", "continue")
    client.wait_for("● stopped")
    return client


def test_compiled_code_comes_back_with_the_console_after_a_lost_one(
    jobs: Jobs, session: Callable[..., Session]
) -> None:
    stance = Evaluate(text="__import__('torch')._dynamo.eval_frame._stance.stance", ranks=(0, 1))
    with jobs("wrapped", env={"MODE": "compile"}) as job:
        with _stopped(job, lease_s=1.0) as client:
            client.process.kill()
            client.process.wait(10)
        job.wait_for_progress()  # eagerly on every rank: one that compiled again alone could hang the others
        second = session(job)
        assert all(welcome.is_eager for welcome in second.welcomes.values())
        second.detach()
        job.wait_for_progress()
        third = session(job)
        assert not any(welcome.is_eager for welcome in third.welcomes.values())
        third.pause()
        third.wait(20)
        assert {reply.repr for reply in third.ask(stance).replies.values()} == {"'default'"}  # type: ignore[union-attr]
        third.detach()
        job.wait_for_progress()
