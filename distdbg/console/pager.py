"""Long output through the user's pager."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys


def page(drawn: str) -> None:
    """Show text in $PAGER (less -SRXF when it is not set); plainly when that cannot be run."""
    command = shlex.split(os.environ.get("PAGER") or "less")
    if os.path.basename(command[0]) == "less" and len(command) == 1:
        command.append("-SRXF")
    try:
        subprocess.run(command, input=drawn.encode() + b"\n", check=False)
    except OSError:
        sys.stdout.write(drawn + "\n")
