"""Completion, called as prompt_toolkit calls it."""

from __future__ import annotations

from typing import Any

import pytest
from prompt_toolkit.completion import CompleteEvent
from prompt_toolkit.document import Document

from distdbg.console.console import Console
from distdbg.console.prompt import ConsoleCompleter
from distdbg.schema.message import Locals, ReadLocals


def completed(console: Console, line: str) -> list[str]:
    """The whole lines that completion offers."""
    found = ConsoleCompleter(console).get_completions(Document(line), CompleteEvent())
    return [line[: len(line) + each.start_position] + each.text for each in found]


@pytest.mark.parametrize(
    ("line", "lines"),
    [
        ("pla", ["placements"]),
        ("break ", ["break emb", "break layer"]),
        ("break la", ["break layer"]),
        ("break layer", ["break layer.0"]),
        ("break layer.0.", ["break layer.0.attention"]),
        ("break layer.0.attention", ["break layer.0.attention.wq", "break layer.0.attention.wk",
                                     "break layer.0.attention.wo"]),
        ("break att", ["break layer.0.attention"]),
        ("break emb b", ["break emb backward"]),
        ("pl em", ["pl emb"]),
        ("pl emb.", ["pl emb.weight"]),
        ("print f(emb.", ["print f(emb.weight"]),
        ("@t", ["@tp="]),
        ("@tp=", ["@tp=0", "@tp=1"]),
        ("@dp=0,tp=1 pla", ["@dp=0,tp=1 placements"]),
        ("focus sto", ["focus stopped"]),
        ("where --", ["where --depth"]),
        ("set wi", ["set width"]),
        ("help plac", ["help placements"]),
        ("nonsense x", []),
    ],
)  # fmt: skip
def test_lines(console: Console, line: str, lines: list[str]) -> None:
    assert completed(console, line) == lines


def test_modules_have_their_class_as_meta(console: Console) -> None:
    found = ConsoleCompleter(console).get_completions(Document("break layer.0."), CompleteEvent())
    assert [each.display_meta_text for each in found] == ["Attention"]


def test_locals_of_the_stopped_frame(console: Console, stopped: Any) -> None:
    stopped.answers[ReadLocals] = lambda rank, request: Locals((("x", "f32[4]"), ("xs", "list")))
    assert completed(console, "print f(x") == ["print f(x", "print f(xs"]
    assert completed(console, "inspect x") == ["inspect x", "inspect xs"]


def test_files(console: Console, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "steps.dbg").touch()
    (tmp_path / "scripts").mkdir()
    monkeypatch.chdir(tmp_path)
    assert completed(console, "source s") == ["source scripts/", "source steps.dbg"]
    assert completed(console, f"source {tmp_path}/st") == [f"source {tmp_path}/steps.dbg"]


def test_rules_are_completed_by_number(console: Console) -> None:
    console.evaluate("break emb")
    assert completed(console, "delete ") == ["delete 1"]
