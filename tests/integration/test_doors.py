"""Every way into a job, on real processes, and who may be in it."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from distdbg.client.launch import SITE
from distdbg.client.session import Session
from distdbg.schema.breakpoint import ModuleBreakpoint
from tests.bench import Job, LiveConsole, console, line_of
from tests.bench.job import ROOT
from tests.bench.script import distdbg, run_script

Jobs = Callable[..., AbstractContextManager[Job]]
Attach = Callable[..., Session]
LATE = ROOT / "tests" / "jobs" / "late.py"


def agent_files(job: Job) -> list[str]:
    """What agents have published, sorted."""
    return sorted(path.name for path in Path(job.env["DISTDBG_RUNTIME_DIR"], "distdbg").glob("*"))


def listing(job: Job) -> dict[str, object]:
    """The line of `jobs --json` about this job."""
    lines = distdbg(job.env, "jobs", "--json").lines
    (mine,) = [line for line in lines if set(line["pids"]) == set(job.pids.values())]
    return mine


def test_run_keeps_its_agents_from_console_to_console_and_leaves_nothing(jobs: Jobs) -> None:
    with jobs("wrapped", env={"STEPS": "1500"}, launcher=("distdbg", "run")) as job:
        mine = listing(job)
        assert (mine["script"], mine["world_size"], mine["ranks"], mine["is_prepared"]) == (
            "wrapped.py",
            2,
            [0, 1],
            True,
        )
        files = agent_files(job)
        assert files == sorted(f"{pid}{end}" for pid in job.pids.values() for end in (".json", ".sock"))

        first = distdbg(job.env, "attach", str(mine["id"]), "--json", "--batch", "-ex", "break blocks.0", "-ex", "c")
        assert first.returncode == 0, first.stdout + first.stderr
        assert agent_files(job) == files, "a prepared agent stays when its console has left"
        hurry = "exec __import__('os').environ.update(STEP_SLEEP='0')"
        second = console(job, "info breakpoints", "pause", hurry, "detach", options=())
        assert second.returncode == 0, second.stdout + second.stderr
        assert "Detached: 2 ranks running" in second.stdout
        assert "blocks.0" not in second.stdout, "the former console took its breakpoint along"

        assert job.wait_for_end() == 0, job.log
        assert agent_files(job) == []


def test_the_environment_runs_the_users_own_sitecustomize_too(jobs: Jobs, tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    theirs.joinpath("sitecustomize.py").write_text("import sys; print('theirs', file=sys.stderr)\n")
    path = os.pathsep.join(map(str, (SITE, theirs, ROOT)))
    end = tmp_path / "end"
    with jobs("listening", env={"DISTDBG": "1", "PYTHONPATH": path, "END": str(end)}) as job:
        assert job.log.count("theirs\n") == 3, "torchrun and two ranks"
        assert listing(job)["is_prepared"]
        result = console(job, "status")
        assert result.returncode == 0, result.stdout + result.stderr
        end.touch()
        assert job.wait_for_end() == 0, job.log
        assert agent_files(job) == []


def test_breakpoint_waits_for_the_first_console_and_stops_at_once_when_there_is_one(jobs: Jobs) -> None:
    waiting = r"^distdbg: waiting at (\S+); (python -m distdbg attach --pid \d+)$"
    with jobs("breakpoint_call", nproc=3, env={"BREAK": "2,4", "STEPS": "6"}, ready=waiting) as job:
        here = f"breakpoint_call.py:{line_of('breakpoint_call', 'call')}"
        where, command = job.wait_for(waiting).groups()
        assert where.endswith(here)
        assert int(command.split()[-1]) in job.pids.values()
        assert "step 1 " in job.log and "step 2 " not in job.log
        with LiveConsole(job, "--json") as client:
            for step in (2, 4):
                if step == 4:  # at the first, ranks may stop before the console listens to events
                    event = client.wait_for('"event":"stopped","ranks":.0,1,2.')
                    assert '"event":"breakpoint-call"' in event, event
                wait_until_all_stopped(client)
                client.type("where")
                answer = client.wait_for('"command":"where"')
                assert '"ranks":[0,1,2]' in answer and f'"line":{line_of("breakpoint_call", "call")}' in answer, answer
                client.type("print step")
                assert f'"repr":"{step}"' in client.wait_for('"command":"print step"')
                client.type("detach" if step == 4 else "continue")
            assert job.wait_for_end() == 0, job.log
        assert "step 5 " in job.log
        assert len(re.findall(waiting, job.log, re.MULTILINE)) == 1, "once per job"
        assert agent_files(job) == []


def wait_until_all_stopped(client: LiveConsole) -> None:
    """Ask until every rank is."""
    deadline = time.monotonic() + 30
    answer = ""
    while '"clusters":[{"ranks":[0,1,2],"data":{"state":"stopped"' not in answer:
        assert time.monotonic() < deadline, answer
        client.type("status")
        answer = client.wait_for('"command":"status"')


def test_a_job_whose_ranks_wait_in_a_collective_can_be_attached_to(jobs: Jobs, tmp_path: Path) -> None:
    go = tmp_path / "go"
    with jobs("late", nproc=3, env={"GO": str(go)}, ready="(?s)(rank.*){3}") as job:
        result = console(job, "status", "where --depth 20")
        assert result.returncode == 0, result.stdout + result.stderr
        activities = result.by_rank("status")
        assert all("all_reduce" in activities[rank]["at"] for rank in (0, 2)), activities
        assert "all_reduce" not in activities[1]["at"], activities
        lines = {rank: innermost(frames, "late.py") for rank, frames in result.by_rank("where --depth 20").items()}
        waiting, late = line_of("late", "all_reduce"), line_of("late", "late")
        assert lines == {0: waiting, 1: late, 2: waiting}
        assert agent_files(job) == []
        go.touch()
        job.wait_for_progress()


def innermost(frames: list[dict[str, object]], file: str) -> object:
    """The line that the innermost frame in `file` is on."""
    return next(frame["line"] for frame in frames if str(frame["file"]).endswith(file))


def test_ranks_that_no_environment_names_are_attached_to_by_their_pids(tmp_path: Path) -> None:
    go = tmp_path / "go"
    command = (sys.executable, str(LATE), "2")
    with run_script(*command, runtime_dir=tmp_path, env={"GO": str(go)}, ready="(?s)(rank.*){2}") as job:
        job.pids = {int(rank): int(pid) for rank, pid in re.findall(r"rank (\d) pid (\d+)", job.log)}
        pids = [word for rank in (1, 0) for word in ("--pid", str(job.pids[rank]))]  # in any order
        result = distdbg(job.env, "attach", *pids, "--batch", "--json", "-ex", "status", "-ex", "where")
        assert result.returncode == 0, result.stdout + result.stderr
        (attached,) = [line for line in result.lines if line.get("event") == "attached"]
        assert attached["pids"] == {str(rank): pid for rank, pid in job.pids.items()}
        assert attached["missing_ranks"] == []
        assert "all_reduce" in result.by_rank("status")[0]["at"]

        alone = distdbg(job.env, "attach", "--pid", str(job.pids[1]), "--batch", "--json", "-ex", "status")
        (attached,) = [line for line in alone.lines if line.get("event") == "attached"]
        assert (attached["missing_ranks"], alone.returncode) == ([0], 0)

        parent = distdbg(job.env, "attach", "--pid", str(job.launcher_pid), "--batch")
        assert parent.returncode == 4
        assert f"--pid {job.pids[0]} --pid {job.pids[1]}" in parent.stderr
        assert agent_files(job) == []
        go.touch()
        job.wait_for_progress()


def test_one_console_at_a_time_and_the_next_finds_the_stop(jobs: Jobs, session: Attach) -> None:
    with jobs("wrapped") as job:
        stay = ("--on-disconnect", "stay", "--lease", "1", "-ex", "break blocks.0", "-ex", "continue")
        with LiveConsole(job, *stay) as first:
            first.wait_for("● stopped")
            refused = console(job, "status", options=())
            assert refused.returncode == 4
            assert refused.stdout == ""
            who = f"Another console is attached to this rank (pid {first.process.pid})"
            assert refused.stderr == f"Rank 0: {who}. Leave it with quit first.\n"
            first.type("print 1 + 1")
            first.wait_for("^0-1 +2")
            mark = len(job.log)
            first.process.kill()
            next_one = console(job, "status", "where")  # before the killed one has even been waited for
            assert next_one.returncode == 0, next_one.stdout + next_one.stderr
        assert next_one.data("status")["state"] == "stopped"
        assert "Net.forward" in [frame["function"] for frame in next_one.data("where")]
        job.wait_for("step", after=mark)  # it was an ordinary console, so the job went on when it left

        with LiveConsole(job, *stay) as first:
            first.wait_for("● stopped")
            first.process.kill()
            first.process.wait(10)
        mark = len(job.log)
        assert not is_said(job, "step", 2.5, after=mark), "the ranks stay when the lease is over"
        last = console(job, "status", "where", "info breakpoints", "break blocks.1", "continue", "detach")
        assert last.returncode == 0, last.stdout + last.stderr
        state = last.data("status")
        assert (state["state"], state["at"]) == ("stopped", "forward blocks.0 · breakpoint 1")
        (went_on,) = last.results("continue")
        assert went_on["clusters"][0]["data"]["subject"] == "blocks.1", "the former console's breakpoint is gone"
        job.wait_for_progress()

        for _ in range(5):  # no moment at which an agent that leaves is in the way of the next
            attached = session(job)
            attached.add_rule(ModuleBreakpoint(id=0, pattern="shared"))
            assert attached.wait(20) is not None
            attached.detach()
        job.wait_for_progress()


def is_said(job: Job, pattern: str, timeout_s: float, *, after: int) -> bool:
    """Whether the log says `pattern` in time."""
    try:
        job.wait_for(pattern, timeout_s, after=after)
    except AssertionError:
        return False
    return True
