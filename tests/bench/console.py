"""A console without a terminal: commands in, one JSON object per line out."""

from __future__ import annotations

import json
import subprocess
import sys
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
