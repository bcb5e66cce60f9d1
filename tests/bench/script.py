"""A process without a launcher, and any console command line: for the doors that torchrun does not lead through."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.bench.console import Result
from tests.bench.job import ROOT, START_S, Job


@contextmanager
def run_script(
    *command: str, runtime_dir: Path, env: Mapping[str, str] | None = None, ready: str = r"step 0", name: str = "script"
) -> Iterator[Job]:
    """Run `command` in a session of its own until the block ends; `pids` are left to the test."""
    settings = {
        **os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo", "PYTHONUNBUFFERED": "1",
        "DISTDBG_RUNTIME_DIR": str(runtime_dir), "PYTHONPATH": str(ROOT), **(env or {}),
    }  # fmt: skip
    runtime_dir.mkdir(parents=True, exist_ok=True)
    log_path = runtime_dir / f"{name}.log"
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=settings, start_new_session=True
        )
    job = Job(process, log_path, settings)
    try:
        job.wait_for(ready, START_S)
        yield job
    except BaseException:
        print(f"---- log of {name}\n{job.log}")
        raise
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)  # its leader lives, so the group is still this one
        process.wait()


def distdbg(env: Mapping[str, str], *words: str, timeout_s: float = 90.0) -> Result:
    """`python -m distdbg WORDS…`, its standard input empty."""
    done = subprocess.run(
        [sys.executable, "-m", "distdbg", *words], env=dict(env), capture_output=True, text=True, timeout=timeout_s,
        stdin=subprocess.DEVNULL, check=False,
    )  # fmt: skip
    lines = [json.loads(line) for line in done.stdout.splitlines()] if "--json" in words else []
    return Result(done.returncode, done.stdout, done.stderr, lines)
