"""`python -m distdbg run`: torchrun with the agent in every rank. Same options, same output, same exit status."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Mapping
from pathlib import Path

SITE = Path(__file__).resolve().parent.parent / "site"
"""The folder whose `sitecustomize` starts the agent."""

_NCCL = {
    # A rank that is stopped makes no progress, and NCCL's monitor would kill its process for it. Read when a process
    # group is made: nothing can change it later.
    "TORCH_NCCL_HEARTBEAT_TIMEOUT_SEC": "86400",
    "TORCH_NCCL_ENABLE_MONITORING": "0",
}


def prepare_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment in which every Python process starts an agent once it has a process group."""
    path = [entry for entry in environ.get("PYTHONPATH", "").split(os.pathsep) if entry and entry != str(SITE)]
    return {**_NCCL, **environ, "DISTDBG": "1", "PYTHONPATH": os.pathsep.join([str(SITE), *path])}


def main(argv: list[str]) -> int:  # noqa: RET503  (execve does not return)
    """Become torchrun with these arguments; returns only when it cannot."""
    if importlib.util.find_spec("torch") is None:
        print(f"torch is not installed for {sys.executable}.", file=sys.stderr)  # noqa: T201
        return 2
    sys.stdout.flush()
    sys.stderr.flush()
    command = [sys.executable, "-m", "torch.distributed.run", *argv]
    os.execve(sys.executable, command, prepare_environment(os.environ))  # noqa: S606
