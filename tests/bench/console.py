"""A console without a terminal: commands in, one JSON object per line out."""

from __future__ import annotations

import json
import queue
import re
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from typing import Any

from tests.bench.job import Job


@dataclass
class Result:
    """What a console printed and how it ended."""

    returncode: int
    stdout: str
    stderr: str
    lines: list[dict[str, Any]] = field(default_factory=list)

    def results(self, command: str) -> list[dict[str, Any]]:
        """The result objects of a command, in order."""
        found = [line for line in self.lines if line["type"] == "result" and line["command"] == command]
        assert found, f"no result of {command!r} in:\n{self.stdout}\n{self.stderr}"
        return found

    def data(self, command: str) -> Any:
        """The data of the only cluster of a command's only result."""
        (result,) = self.results(command)
        assert result["ok"], result
        (cluster,) = result["clusters"]
        return cluster["data"]

    def by_rank(self, command: str) -> dict[int, Any]:
        """rank -> its data in a command's only result."""
        (result,) = self.results(command)
        assert result["ok"], result
        return {rank: cluster["data"] for cluster in result["clusters"] for rank in cluster["ranks"]}


def console(
    job: Job, *commands: str, options: tuple[str, ...] = ("--json",), timeout_s: float = 90.0, stdin: str | None = None
) -> Result:
    """`python -m distdbg attach --pid LAUNCHER --batch --json -ex COMMAND …`."""
    arguments = [sys.executable, "-m", "distdbg", "attach", "--pid", str(job.launcher_pid), "--batch", *options]
    arguments += [word for command in commands for word in ("-ex", command)]
    done = subprocess.run(
        arguments, env=job.env, capture_output=True, text=True, timeout=timeout_s, input=stdin or "", check=False
    )
    lines = [json.loads(line) for line in done.stdout.splitlines()] if "--json" in options else []
    return Result(done.returncode, done.stdout, done.stderr, lines)


class LiveConsole:
    """A console that stays: commands through a pipe, one at a time, and waiting for what it says."""

    def __init__(self, job: Job, *options: str) -> None:
        command = [sys.executable, "-m", "distdbg", "attach", "--pid", str(job.launcher_pid), *options]
        self.process = subprocess.Popen(
            command, env=job.env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            bufsize=1,
        )  # fmt: skip
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._seen: list[str] = []
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self._lines.put(line)
        self._lines.put(None)

    def type(self, command: str) -> None:
        assert self.process.stdin
        self.process.stdin.write(f"{command}\n")

    def wait_for(self, pattern: str, timeout_s: float = 30.0) -> str:
        """The first line from now on that matches; fails with everything that was said."""
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                line = self._lines.get(timeout=max(0.01, deadline - time.monotonic()))
            except queue.Empty:
                line = None
            assert line is not None, f"the console never said {pattern!r}:\n{''.join(self._seen)}"
            self._seen.append(line)
            if re.search(pattern, line):
                return line

    def __enter__(self) -> LiveConsole:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(10)
