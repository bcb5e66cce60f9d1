"""`source`: run the commands of a file."""

from __future__ import annotations

from pathlib import Path

from distdbg.console.console import Console
from distdbg.console.registry import command
from distdbg.console.report import Report
from distdbg.console.syntax import FileName
from distdbg.errors import DistdbgError, UsageError


@command("source", family="other")
def source(console: Console, file: FileName) -> Report:
    """Run the commands of a file, up to the first that fails.

    A line that begins with - may fail; # begins a comment.
    """
    lines = read_script(file)
    if not console.run_script(lines):
        raise DistdbgError(f"{file}: stopped at {console.last_line!r}, which failed; -{console.last_line} would go on.")
    return Report()


def read_script(file: str) -> list[str]:
    """The lines of a file of commands; raises UsageError when there is none."""
    try:
        return Path(file).expanduser().read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise UsageError(f"Cannot read {file}: {reason}.") from error
