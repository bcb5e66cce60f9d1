"""What attaching costs a job: time to the prompt, memory, step time while nobody does anything, and many rounds of it.

    python benchmarks/attach.py            everything, about five minutes
    python benchmarks/attach.py --rounds 500

Ratios come from one running job that is attached and left in turn, so that both sides see the same machine.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from distdbg.client.attach import attach
from distdbg.client.session import Session
from distdbg.schema.breakpoint import ModuleBreakpoint
from tests.bench import Job, run_job

Arm = Callable[[Session], object]


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--rounds", type=int, default=100, help="attach and detach so many times")
    arguments.add_argument("--pairs", type=int, default=12, help="pairs of attached and unattached stretches")
    options = arguments.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="distdbg-bench-"))
    os.environ["DISTDBG_RUNTIME_DIR"] = str(directory)
    with run_job("transformer_2d", nproc=4, runtime_dir=directory, env={"STEP_SLEEP": "0"}) as job:
        measure_rounds(job, options.rounds)
    with run_job("transformer_2d", nproc=4, runtime_dir=directory, env={"STEP_SLEEP": "0.2"}) as job:
        job.wait_for(r"step 10\b", 60)
        measure_memory(job)
        measure_prompt(job)
    with run_job("wrapped", nproc=2, runtime_dir=directory, env={"STEP_SLEEP": "0", "MODE": "ddp"}) as job:
        job.wait_for(r"step 100\b", 60)
        print("\nCPU time of a step, attached over unattached (DDP, 2 ranks, launch-bound)")
        measure_steps(job, "idle", lambda _: None, options.pairs)
        measure_steps(job, "breakpoint never met", arm_condition_elsewhere, options.pairs)
    return 0


def arm_condition_elsewhere(session: Session) -> object:
    """A breakpoint on a module that the program never calls: its hooks are there, and never fire."""
    return session.add_rule(ModuleBreakpoint(id=0, pattern="blocks.0.unused"))


def measure_rounds(job: Job, rounds: int) -> None:
    """Attach and detach again and again; any failure raises."""
    took: list[float] = []
    before = memory_kb(job)
    for _ in range(rounds):
        session = attach(pids=[job.launcher_pid], timeout_s=30)
        took.append(session.job.attached_in_s)
        left = session.detach()
        assert len(left) == 4, left
    job.wait_for_progress()
    grown = max(after - start for after, start in zip(memory_kb(job), before, strict=True))
    print(f"{rounds} rounds of attach and detach on 4 busy ranks: no crash, no hang")
    print(f"  attached in {1e3 * min(took):.0f} ms at best, {1e3 * statistics.median(took):.0f} ms at the median")
    print(f"  memory of a rank afterwards: +{grown / 1024:.1f} MB")


def measure_prompt(job: Job) -> None:
    """Wall time of a whole console that attaches, says one thing and leaves."""
    walls = []
    for _ in range(5):
        began = time.perf_counter()
        command = [
            sys.executable,
            "-m",
            "distdbg",
            "attach",
            "--pid",
            str(job.launcher_pid),
            "--batch",
            "-ex",
            "status",
        ]
        done = subprocess.run(
            command, env=job.env, capture_output=True, text=True, check=True, stdin=subprocess.DEVNULL
        )
        walls.append(time.perf_counter() - began)
        attached = re.search(r"attached in ([\d.]+) s", done.stdout)
        assert attached, done.stdout
    print(
        f"console from start to end, 4 unprepared ranks: {min(walls):.2f} s at best, {statistics.median(walls):.2f} s"
    )


def measure_memory(job: Job) -> None:
    """Private memory that the first agent adds to a rank: its threads, its imports, its look at the model."""
    before = memory_kb(job)
    session = attach(pids=[job.launcher_pid], timeout_s=30)
    job.wait_for_progress()
    during = memory_kb(job)
    session.detach()
    added = [after - start for after, start in zip(during, before, strict=True)]
    print(f"an idle agent adds {max(added) / 1024:.1f} MB to a rank")


def memory_kb(job: Job) -> list[int]:
    """Private memory of each rank."""
    found = []
    for _, pid in sorted(job.pids.items()):
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        found.append(sum(int(kb) for kb in re.findall(r"^Private_\w+:\s+(\d+) kB", text, re.MULTILINE)))
    return found


def measure_steps(job: Job, title: str, arm: Arm, pairs: int) -> None:
    """Time of a step attached over unattached, from stretches alone, attached, alone: drift falls on both sides."""
    ratios = []
    for _ in range(pairs):
        before = rate(job)
        session = attach(pids=[job.launcher_pid], timeout_s=30)
        arm(session)
        attached = rate(job)
        session.detach()
        ratios.append((before + rate(job)) / 2 / attached)
    low, middle, high = (sorted(ratios)[int(q * (len(ratios) - 1))] for q in (0.25, 0.5, 0.75))
    print(f"  {title:<24} {middle:.3f}   (quartiles {low:.3f} to {high:.3f} of {pairs} pairs)")


def rate(job: Job, stretch_s: float = 2.0) -> float:
    """Steps per second of CPU time of all ranks, the agents' threads included: a busy neighbour does not count."""
    first, began = steps(job), cpu_s(job)
    time.sleep(stretch_s)
    return (steps(job) - first) / (cpu_s(job) - began)


def cpu_s(job: Job) -> float:
    """CPU time that the ranks have used."""
    used = 0
    for pid in job.pids.values():
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        used += int(fields[11]) + int(fields[12])
    return used / os.sysconf("SC_CLK_TCK")


def steps(job: Job) -> int:
    with job.log_path.open("rb") as log:
        log.seek(max(0, job.log_path.stat().st_size - 400))
        return int(re.findall(rb"step (\d+)", log.read())[-1])


if __name__ == "__main__":
    sys.exit(main())
