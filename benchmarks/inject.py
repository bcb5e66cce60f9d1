"""How safe and how quick is it to inject code into a live process? Thousands of times, in the worst places.

    python benchmarks/inject.py [ROUNDS]      500 rounds into each target unless told

Three targets: `busy` loops over torch while other threads load libraries, allocate, parse JSON and collect
garbage; `busy alone` does the same in one thread, so that no sleeping one can be chosen to be stopped; `blocked`
is a rank waiting in a gloo all_reduce for its peer. Each round starts a daemon thread in the target that runs
some Python and counts; the round is over when the count is seen. Afterwards the target must still be healthy:
the busy ones go on looping, the blocked one gets its peer and finishes the collective with the right result.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from distdbg.client.inject import Injection, inject
from distdbg.errors import DistdbgError, ProcessGone

JOBS = Path(__file__).parent.parent / "tests" / "jobs"
ROUND_TIMEOUT_S = 30.0
MAX_MEDIAN_PAUSE_S = 0.05

PAYLOAD = """
import threading

def count():
    import json
    json.dumps({{str(number): [number] * 5 for number in range(200)}})
    with open({path!r}, "ab") as counter:
        counter.write(b"x")

threading.Thread(target=count, daemon=True).start()
"""


@dataclass
class Result:
    """What `rounds` injections into one target came to."""

    target: str
    injections: list[Injection] = field(default_factory=list)
    round_s: list[float] = field(default_factory=list)
    crashes: int = 0
    hangs: int = 0
    failures: list[str] = field(default_factory=list)

    @property
    def is_good(self) -> bool:
        pauses = [injection.paused_s for injection in self.injections]
        return not self.failures and bool(pauses) and statistics.median(pauses) < MAX_MEDIAN_PAUSE_S

    def row(self) -> list[str]:
        pauses = sorted(injection.paused_s * 1e3 for injection in self.injections) or [float("nan")]
        totals = sorted(total * 1e3 for total in self.round_s) or [float("nan")]
        return [
            self.target,
            str(len(self.injections)),
            str(self.crashes),
            str(self.hangs),
            *(f"{number:.2f}" for number in (_percentile(pauses, 0.5), _percentile(pauses, 0.99), pauses[-1])),
            *(f"{number:.1f}" for number in (_percentile(totals, 0.5), _percentile(totals, 0.99), totals[-1])),
            str(max((injection.tries for injection in self.injections), default=0)),
        ]


def _percentile(ordered: list[float], share: float) -> float:
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]


def inject_many(target: str, process: subprocess.Popen[str], rounds: int, counter: Path) -> Result:
    result = Result(target)
    code = PAYLOAD.format(path=str(counter))
    counter.touch()
    for number in range(1, rounds + 1):
        started = time.perf_counter()
        try:
            result.injections.append(inject(process.pid, code))
        except ProcessGone as error:
            result.crashes += 1
            result.failures.append(f"round {number}: {error}")
            return result
        except DistdbgError as error:
            result.failures.append(f"round {number}: {error}")
            continue
        if not wait_until(partial(has_counted, counter, len(result.injections)), process):
            has_died = process.poll() is not None
            result.crashes += has_died
            result.hangs += not has_died
            result.failures.append(f"round {number}: the code did not run, exit status {process.poll()}")
            return result
        result.round_s.append(time.perf_counter() - started)
    return result


def has_counted(counter: Path, number: int) -> bool:
    return counter.stat().st_size >= number


def wait_until(is_true: Callable[[], bool], process: subprocess.Popen[str]) -> bool:
    deadline = time.monotonic() + ROUND_TIMEOUT_S
    while not is_true():
        if process.poll() is not None or time.monotonic() > deadline:
            return False
        time.sleep(0.001)
    return True


def start(command: str, cleanup: ExitStack, **environ: str) -> subprocess.Popen[str]:
    script, *arguments = command.split()
    process = subprocess.Popen(
        [sys.executable, "-u", str(JOBS / script), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environ},
    )
    cleanup.callback(process.wait)
    cleanup.callback(process.kill)
    return process


def expect(process: subprocess.Popen[str], word: str) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith(word):
            return
    raise SystemExit(f"pid {process.pid} ended without saying {word!r}, exit status {process.wait()}")


def say(process: subprocess.Popen[str], word: str) -> None:
    assert process.stdin is not None
    process.stdin.write(word + "\n")
    process.stdin.flush()


def run_busy(target: str, command: str, rounds: int, folder: Path) -> Result:
    with ExitStack() as cleanup:
        process = start(command, cleanup)
        expect(process, "ready")
        result = inject_many(target, process, rounds, folder / target)
        if not result.crashes:
            say(process, "finish")
            expect(process, "finished")
        return result


def run_blocked(rounds: int, folder: Path) -> Result:
    with ExitStack() as cleanup:
        environ = {"WORLD_SIZE": "2", "STORE": str(folder / "store")}
        waiting = start("gloo_wait.py", cleanup, RANK="0", **environ)
        peer = start("gloo_wait.py", cleanup, RANK="1", **environ)
        expect(waiting, "ready")
        expect(peer, "ready")
        result = inject_many("blocked in gloo", waiting, rounds, folder / "blocked")
        if not result.crashes:
            say(peer, "finish")
            expect(waiting, "finished 3.0")
        return result


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rounds", nargs="?", type=int, default=500)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as name:
        results = [
            run_busy("busy", "busy.py", rounds, Path(name)),
            run_busy("busy alone", "busy.py alone", rounds, Path(name)),
            run_blocked(rounds, Path(name)),
        ]
    columns = ["target", "rounds", "crashes", "hangs", "paused ms p50", "p99", "max"]
    columns += ["total ms p50", "p99", "max", "most tries"]
    rows = [columns, *(result.row() for result in results)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(columns))]
    for row in rows:
        print("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)))
    for result in results:
        for failure in result.failures:
            print(f"{result.target}: {failure}", file=sys.stderr)
    return 0 if all(result.is_good and len(result.injections) == rounds for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
