"""`python -m distdbg demo`: a real job of four ranks on this machine's CPU, and the console stopped inside it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from distdbg.client.launch import prepare_environment
from distdbg.errors import AttachError

SCRIPT = Path(__file__).resolve().parent.parent / "demo" / "transformer_2d.py"
NUM_RANKS = 4
START_TIMEOUT_S = 180.0

STOP = ("break layer.0.attention", "continue")
TOUR = (
    *STOP,
    "placements layer.0.attention",
    "inspect layer.0.attention.wq.weight",
    "shards layer.0.attention.wo.weight",
    "print x.shape",
    "step module",
    "detach",
)
"""What is played where nobody can type."""


def main() -> int:
    """Start the job, open the console, end the job; the exit status is the console's."""
    for ending in (signal.SIGHUP, signal.SIGTERM):  # a closed terminal must not leave the job behind
        signal.signal(ending, _leave)
    is_interactive = sys.stdin.isatty() and sys.stdout.isatty()
    with tempfile.TemporaryDirectory(prefix="distdbg-demo-") as folder:
        _say(f"Starting a job of {NUM_RANKS} ranks on the CPU: tensor parallelism and FSDP2 on a 2 x 2 mesh ...")
        with _job(Path(folder), os.environ) as pid:
            attach = [sys.executable, "-m", "distdbg", "attach", "--pid", str(pid)]
            if not is_interactive:
                steps = [word for command in TOUR for word in ("-ex", command)]
                return subprocess.run([*attach, "--batch", *steps], stdin=subprocess.DEVNULL, check=False).returncode
            _say("This is what `python -m distdbg attach` opens on any job. It runs `break` and `continue` first.")
            _say("Try: placements layer.0.attention, shards layer.0.attention.wo.weight, print x.shape, step module\n")
            steps = [word for command in STOP for word in ("-ex", command)]
            ignored = signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the console's
            try:
                return subprocess.run([*attach, *steps], check=False, preexec_fn=_take_interrupts).returncode
            finally:
                signal.signal(signal.SIGINT, ignored)
                _say("Ending the demo's job.")


def _leave(number: int, _frame: object) -> None:
    """End as by an exception, so that what was started is ended too."""
    sys.exit(128 + number)


def _say(text: str) -> None:
    with suppress(OSError):  # the terminal may be gone
        print(text, flush=True)  # noqa: T201


def _take_interrupts() -> None:
    """An ignored signal stays ignored across exec, and the console wants this one."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@contextmanager
def _job(folder: Path, environ: Mapping[str, str]) -> Iterator[int]:
    """The running job; gives the process id of its torchrun. Raises AttachError when it does not come up."""
    # A copy outside of the package: frames of distdbg's own files are left out of the stacks that the console shows.
    script = Path(shutil.copy(SCRIPT, folder / "train.py"))
    log = folder / "log"
    loopback = "lo" if sys.platform == "linux" else "lo0"
    environment = {
        "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": loopback, **environ,
        "STEPS": "0", "STEP_SLEEP": "0.2", "EVERY": "1", "CUDA_VISIBLE_DEVICES": "",
    }  # fmt: skip
    environment.pop("LOSSES", None)
    if not _may_attach():
        environment = prepare_environment(environment)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(NUM_RANKS)]
    with log.open("wb") as output:
        launcher = subprocess.Popen(
            [*command, str(script)], env=environment, cwd=folder, stdin=subprocess.DEVNULL,
            stdout=output, stderr=output, start_new_session=True,
        )  # fmt: skip
    try:
        _wait_for_step(launcher, log)
        yield launcher.pid
    finally:
        _end(launcher)


def _may_attach() -> bool:
    """Whether the kernel lets one process of a user trace another; else the job is started prepared."""
    if sys.platform != "linux":
        return False
    try:
        return Path("/proc/sys/kernel/yama/ptrace_scope").read_text().strip() == "0"
    except OSError:
        return True  # no Yama


def _wait_for_step(launcher: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while b"\nstep " not in log.read_bytes():
        if launcher.poll() is not None or time.monotonic() > deadline:
            raise AttachError(f"The demo's job did not start. Its output:\n{log.read_text(errors='replace')[-4000:]}")
        time.sleep(0.05)


def _end(launcher: subprocess.Popen[bytes]) -> None:
    """End torchrun, which ends its ranks; it gives them 30 s before it kills them."""
    launcher.terminate()
    with suppress(subprocess.TimeoutExpired):
        launcher.wait(timeout=40)
    with suppress(ProcessLookupError):
        os.killpg(launcher.pid, signal.SIGKILL)
    launcher.wait()
