"""The README lists exactly the commands that there are."""

from __future__ import annotations

import re
from pathlib import Path

from distdbg.console.registry import FAMILIES, load_commands

README = Path(__file__).parents[2] / "README.md"


def test_command_list_is_the_registry() -> None:
    section = README.read_text().partition("## Commands")[2].partition("\n## ")[0]
    listed = {
        (name, aliases or "")
        for row in section.splitlines()
        if row.startswith("| ") and not row.startswith("| family")
        for name, aliases in re.findall(r"`([^`]+)`(?: \(([^)]*)\))?", row)
    }
    commands = load_commands().values()
    assert listed == {(one.name, ", ".join(one.aliases)) for one in commands}
    assert len(re.findall(r"^\| (?!family)", section, re.MULTILINE)) == len(FAMILIES)
