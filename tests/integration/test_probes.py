"""The probes against the gathered truth, in 4 gloo ranks: see tests/jobs/probes.py for what each case compares."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CASES = ("tp_fsdp2", "fsdp1_flat", "fsdp1_orig", "fsdp1_whole", "ddp")


@pytest.fixture(scope="module")
def log() -> str:
    """What the job printed, all cases in one launch: an import of torch in 4 ranks takes longer than the cases."""
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "4"]
    environment = {
        **os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo", "PYTHONPATH": str(ROOT),
        "PYTHONWARNINGS": "ignore",
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, *launch, str(ROOT / "tests/jobs/probes.py")],
        env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=300, check=False,
    )  # fmt: skip
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_agrees_with_truth_without_a_collective(case: str, log: str) -> None:
    said = log.splitlines()
    assert all(f"ok {case} {rank}" in said for rank in range(4)), log
