"""A console on a real pseudo-terminal: what is typed, and the screen that a user then sees."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Callable

import pexpect
import pyte

from tests.bench.job import ROOT, Job

COLUMNS, ROWS = 100, 50
PROMPT = "(distdbg)"


class Screen:
    """`python -m distdbg attach` in a terminal of 100 x 50 that answers as xterm does (cursor position reports)."""

    def __init__(self, job: Job, *options: str, env: dict[str, str] | None = None) -> None:
        self._screen = pyte.Screen(COLUMNS, ROWS)
        self._stream = pyte.ByteStream(self._screen)
        environ = {name: text for name, text in os.environ.items() if name not in ("NO_COLOR", "PAGER", "COLUMNS")}
        self.child = pexpect.spawn(
            sys.executable, ["-m", "distdbg", "attach", "--pid", str(job.launcher_pid), *options],
            env={**environ, **job.env, "TERM": "xterm-256color", **(env or {})}, cwd=str(ROOT / "examples"),
            dimensions=(ROWS, COLUMNS), timeout=None,
        )  # fmt: skip
        self._screen.write_process_input = lambda text: self.child.send(text)
        self.written = b""

    @property
    def lines(self) -> list[str]:
        """The screen without the blank lines, the toolbar included."""
        return [line.rstrip() for line in self._screen.display if line.strip()]

    @property
    def toolbar(self) -> str:
        """The bottom line, or empty while there is none."""
        return next((line.strip() for line in self.lines[-1:] if "focus" in line), "")

    @property
    def body(self) -> list[str]:
        """The screen without the toolbar."""
        return self.lines[:-1] if self.toolbar else self.lines

    def send(self, keys: str) -> None:
        """Type keys."""
        self.child.send(keys)

    def wait_for(self, what: str | Callable[[], bool], timeout_s: float = 30.0) -> None:
        """Until a regular expression is found on the screen, or a condition holds; fails with the screen."""
        deadline = time.monotonic() + timeout_s
        while True:
            is_there = what() if callable(what) else re.search(what, "\n".join(self.lines), re.MULTILINE)
            if is_there:
                return
            assert time.monotonic() < deadline, f"never {what!r} on:\n" + "\n".join(self.lines)
            self._read()

    def _read(self) -> None:
        try:
            read = self.child.read_nonblocking(65536, timeout=0.1)
        except pexpect.TIMEOUT:
            return
        except pexpect.EOF:
            time.sleep(0.01)
            return
        self.written += read
        self._stream.feed(read)

    def is_ready(self) -> bool:
        """An empty prompt with its toolbar stands at the end of the screen."""
        return bool(self.toolbar) and self.body[-1:] == [PROMPT]

    def run(self, command: str, timeout_s: float = 30.0) -> list[str]:
        """Type a command and return the lines that it put on the screen, above the next prompt."""
        self.wait_for(self.is_ready, timeout_s)
        self.clear()
        self.send(command + "\r")
        self.wait_for(lambda: self.is_ready() and self.body[0] == f"{PROMPT} {command}", timeout_s)
        return self.body[1:-1]

    def clear(self) -> None:
        """Ctrl-L: the prompt alone, on the first line."""
        self.send("\x0c")
        self.wait_for(lambda: self.is_ready() and len(self.lines) == 2)

    def wait_for_end(self, timeout_s: float = 30.0) -> int:
        """Until the console has ended; its exit status."""
        deadline = time.monotonic() + timeout_s
        while self.child.isalive():
            assert time.monotonic() < deadline, "the console does not end:\n" + "\n".join(self.lines)
            self._read()
        self._read()
        return int(self.child.exitstatus if self.child.exitstatus is not None else -1)

    def __enter__(self) -> Screen:
        return self

    def __exit__(self, *_: object) -> None:
        self.child.close(force=True)
