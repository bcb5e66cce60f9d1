"""Without a terminal: lines from arguments, files and standard input; no prompt, no colour, no prompt_toolkit.

As in gdb: each `-ex` and each line of standard input runs whatever came of the one before; a file (`-x`, `source`)
ends at its first failure unless the line begins with `-`. The exit status is that of the worst failure.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterable

from distdbg.console.commands.detach import leave
from distdbg.console.commands.source import read_script
from distdbg.console.console import Console
from distdbg.errors import DistdbgError

Step = tuple[str, str]
"""("ex", a command line) or ("x", a file of them), in the order of the command line."""


def run_steps(console: Console, steps: Iterable[Step]) -> None:
    """Run what `-ex` and `-x` asked for, in their order."""
    waiting = deque(steps)

    def read_more(prompt: str) -> str:
        if not waiting or waiting[0][0] != "ex":
            raise EOFError
        return waiting.popleft()[1]

    console.read_more = read_more
    while waiting and not console.is_done:
        kind, text = waiting.popleft()
        if kind == "ex":
            console.run(text.removeprefix("-") if text.startswith("-") else text)
        else:
            run_file(console, text)
    console.read_more = None


def run_file(console: Console, file: str) -> None:
    """Run a file of commands up to its first failure."""
    try:
        console.run_script(read_script(file))
    except DistdbgError as error:
        console.fail(f"-x {file}", error)


def run_stdin(console: Console) -> None:
    """Run the lines of standard input as they come."""

    def read_more(prompt: str) -> str:
        line = sys.stdin.readline()
        if not line:
            raise EOFError
        return line.rstrip("\n")

    console.read_more = read_more
    while not console.is_done:
        try:
            line = read_more("")
        except EOFError:
            break
        console.run(line.strip().removeprefix("-"))
    console.read_more = None


def finish(console: Console) -> int:
    """Detach if nobody has yet; the exit status."""
    if not console.is_done:
        try:
            report = leave(console)
            if console.is_interactive:
                console.output.result("quit", report)
            elif report.error is not None:
                raise report.error
        except DistdbgError as error:
            console.fail("detach", error)
    return console.exit_status
