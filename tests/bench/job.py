"""A torchrun job in a session of its own: waited for by the words it prints, ended, its log shown on failure."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PLACES = (ROOT / "tests" / "jobs", ROOT / "examples")
START_S = 90.0


@dataclass
class Job:
    """A running job. `pids` is rank -> process id, `env` what its console needs too."""

    process: subprocess.Popen[bytes]
    log_path: Path
    env: dict[str, str]
    pids: dict[int, int] = field(default_factory=dict)

    @property
    def launcher_pid(self) -> int:
        return self.process.pid

    @property
    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    def wait_for(self, pattern: str, timeout_s: float = 30.0, *, after: int = 0) -> re.Match[str]:
        """Wait until the log says `pattern` beyond character `after`; fails with the log."""
        deadline = time.monotonic() + timeout_s
        while True:
            found = re.compile(pattern, re.MULTILINE).search(self.log, after)
            if found:
                return found
            assert time.monotonic() < deadline, f"no {pattern!r} within {timeout_s:g} s in:\n{self.log}"
            assert self.process.poll() is None, f"the job ended before {pattern!r}:\n{self.log}"
            time.sleep(0.02)

    def wait_for_progress(self, timeout_s: float = 30.0) -> None:
        """Wait until the job prints another step."""
        self.wait_for(r"^.*step \d+", timeout_s, after=len(self.log))

    def wait_for_end(self, timeout_s: float = 60.0) -> int:
        """Wait until the launcher has ended; its exit status."""
        return self.process.wait(timeout_s)


@contextmanager
def run_job(
    name: str, *, nproc: int = 2, env: Mapping[str, str] | None = None, runtime_dir: Path, ready: str = r"step 0",
    launcher: tuple[str, ...] = ("torch.distributed.run",),
) -> Iterator[Job]:  # fmt: skip
    """Run `name`.py of tests/jobs or examples on `nproc` gloo ranks until the block ends; leaves no process behind."""
    script = next(path for place in PLACES if (path := place / f"{name}.py").exists())
    settings = {
        **os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo", "PYTHONUNBUFFERED": "1",
        "DISTDBG_RUNTIME_DIR": str(runtime_dir), "STEPS": "0", "STEP_SLEEP": "0.02", "EVERY": "1",
        "PYTHONPATH": str(ROOT), **(env or {}),
    }  # fmt: skip
    runtime_dir.mkdir(parents=True, exist_ok=True)
    log_path = runtime_dir / "job.log"
    command = [sys.executable, "-m", *launcher, "--standalone", f"--nproc-per-node={nproc}", str(script)]
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=settings, start_new_session=True
        )
    job = Job(process, log_path, settings)
    try:
        job.wait_for(ready, START_S)
        job.pids = find_ranks(process.pid)
        assert len(job.pids) == nproc, f"{job.pids}\n{job.log}"
        yield job
    except BaseException:
        print(f"---- log of {name}\n{job.log}")
        raise
    finally:
        _end(job)


def find_ranks(launcher_pid: int) -> dict[int, int]:
    """rank -> pid of the launcher's children."""
    found: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            parent = int(entry.joinpath("stat").read_text().rpartition(")")[2].split()[1])
            environ = entry.joinpath("environ").read_bytes().split(b"\0")
        except (OSError, IndexError):
            continue
        if parent == launcher_pid:
            ranks = [int(item[5:]) for item in environ if item.startswith(b"RANK=")]
            found |= dict.fromkeys(ranks, int(entry.name))
    return found


def _end(job: Job) -> None:
    if job.process.poll() is None:
        job.process.terminate()
        try:
            job.process.wait(5)
        except subprocess.TimeoutExpired:
            job.process.kill()
    job.process.wait()
    mark = f"DISTDBG_RUNTIME_DIR={job.env['DISTDBG_RUNTIME_DIR']}".encode()
    for pid in job.pids.values():  # a rank may outlive its launcher; the pid may be somebody else's by now
        try:
            if mark in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                os.kill(pid, signal.SIGKILL)
        except OSError:
            continue


def line_of(name: str, mark: str) -> int:
    """The number of the line of job `name` that ends with `# @bp MARK`."""
    script = next(path for place in PLACES if (path := place / f"{name}.py").exists())
    return next(n for n, text in enumerate(script.read_text().splitlines(), 1) if text.endswith(f"# @bp {mark}"))
