"""`python -m distdbg.console.reference`: docs/commands.md, made from the registry. A test fails when it is stale."""

from __future__ import annotations

import sys

from distdbg.console.later import LATER
from distdbg.console.registry import FAMILIES, Command, load_commands
from distdbg.console.settings import MEANINGS, Settings, show_value

TITLES = {
    "ranks": "Ranks and modules",
    "run": "Run",
    "stop": "Stop",
    "look": "Look",
    "other": "Other",
}

HEAD = """# Commands

<!-- Made by `make docs` from the registry: change the docstrings in distdbg/console/commands/. -->

A line is `[@RANKS] COMMAND [arguments]`. Any unique beginning of a command's name will do; the letters are those of gdb
and pdb. `@tp=1 print x.shape` runs one command on other ranks than those of the focus. A rank set is `0-3,7`, `all`,
`stopped`, `running`, `tp=1`, `dp=0:2,tp=1` (mesh axes narrow each other) or `!0`.
"""

SCRIPTS = """## Scripts

Without a terminal the lines come from `-ex`, `-x` and standard input: no prompt, no colour. `-ex` commands and lines of
standard input each run whatever came of the one before; a file (`-x`, `source`) ends at its first failure, unless the
line begins with `-`. Errors go to standard error, with `--json` into the result (`"ok": false`).

The exit status is that of the worst failure: 0 all is well, 1 a command failed, 2 usage, 3 a rank was lost, 4 no job or
several, 5 not permitted to attach, 124 no stop within `--timeout`.
"""


def reference() -> str:
    """The page."""
    commands = load_commands()
    parts = [HEAD, *(_family(family, commands) for family in FAMILIES), SCRIPTS, _settings(), _later()]
    return "\n".join(parts)


def _family(family: str, commands: dict[str, Command]) -> str:
    members = sorted((each for each in commands.values() if each.family == family), key=lambda each: each.name)
    return "\n".join([f"## {TITLES[family]}\n", *(_command(each) for each in members)])


def _command(command: Command) -> str:
    letters = f" ({', '.join(f'`{alias}`' for alias in command.aliases)})" if command.aliases else ""
    details = f"\n{command.details}\n" if command.details else ""
    return f"### `{command.name}`{letters}\n\n    {command.usage}\n\n{command.summary}\n{details}"


def _settings() -> str:
    settings = Settings()
    rows = [f"| `{name}` | {show_value(settings, name)} | {meaning} |" for name, meaning in MEANINGS.items()]
    return "\n".join(["## Settings\n", "| setting | default | meaning |", "|---|---|---|", *rows, ""])


def _later() -> str:
    rows = [f"| `{word}` | {instead} |" for word, instead in LATER.items()]
    return "\n".join(["## Not in this version\n", "| word | until then |", "|---|---|", *rows, ""])


if __name__ == "__main__":
    sys.stdout.write(reference())
