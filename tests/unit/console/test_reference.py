"""docs/commands.md is made from the registry."""

from __future__ import annotations

from pathlib import Path

from distdbg.console.reference import reference
from distdbg.console.registry import load_commands

PAGE = Path(__file__).parents[3] / "docs" / "commands.md"


def test_the_page_is_fresh() -> None:
    assert PAGE.read_text(encoding="utf-8") == reference(), "make docs"


def test_examples_are_drawn_as_code() -> None:
    for name in load_commands():
        for line in reference().splitlines():
            assert not line.startswith(f"{name}   "), f"indent the example of {name} by four more blanks"
