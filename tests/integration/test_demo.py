"""`python -m distdbg demo` where nobody can type."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pexpect

from tests.bench.job import ROOT


def test_plays_its_script_and_leaves_nothing(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "DISTDBG_RUNTIME_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-m", "distdbg", "demo"],
        env=environment, cwd=tmp_path, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    in_order = [
        "stopped 0-3 · iteration",
        "wq.weight   f32   [36, 36]",
        "rank  coordinate",
        "dim 0  18",
        "0-3   torch.Size([2, 16, 36])",
        "forward layer.0.attention.wq",
        "Detached: 4 ranks running",
    ]
    positions = [done.stdout.find(words) for words in in_order]
    assert positions == sorted(positions), done.stdout
    assert -1 not in positions, done.stdout
    assert not list(tmp_path.glob("distdbg/*.*"))
    assert not _processes_of(tmp_path)


def test_a_closed_terminal_ends_the_job_too(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "DISTDBG_RUNTIME_DIR": str(tmp_path), "TERM": "dumb"}
    child = pexpect.spawn(sys.executable, ["-m", "distdbg", "demo"], env=environment, cwd=tmp_path, timeout=120)
    child.expect("stopped 0-3")
    child.close(force=False)
    deadline = time.monotonic() + 60
    while (left := _processes_of(tmp_path)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not left


def _processes_of(runtime_dir: Path) -> list[str]:
    mark = f"DISTDBG_RUNTIME_DIR={runtime_dir}".encode()
    return [entry.name for entry in Path("/proc").glob("[0-9]*") if mark in _environ(entry)]


def _environ(entry: Path) -> bytes:
    try:
        return entry.joinpath("environ").read_bytes()
    except OSError:
        return b""
