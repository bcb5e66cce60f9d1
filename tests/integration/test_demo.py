"""`python -m distdbg demo` where nobody can type."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

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
    environments = [_environ(entry) for entry in Path("/proc").glob("[0-9]*")]
    assert not [one for one in environments if f"DISTDBG_RUNTIME_DIR={tmp_path}".encode() in one]


def _environ(entry: Path) -> bytes:
    try:
        return entry.joinpath("environ").read_bytes()
    except OSError:
        return b""
