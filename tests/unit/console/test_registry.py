"""Words, arguments, abbreviations and what is said about wrong ones."""

from __future__ import annotations

from typing import Any

import pytest

from distdbg.console.console import Console
from distdbg.console.later import LATER
from distdbg.console.registry import FAMILIES, find_command, load_commands
from distdbg.errors import DistdbgError, UsageError
from distdbg.schema.message import Evaluate, Evaluated


@pytest.mark.parametrize(
    ("word", "name"),
    [
        ("c", "continue"), ("s", "step"), ("n", "next"), ("b", "break"), ("p", "print"), ("w", "where"),
        ("bt", "where"), ("q", "quit"), ("l", "list"), ("u", "up"), ("d", "down"), ("i", "inspect"),
        ("pl", "placements"), ("cont", "continue"), ("sha", "shards"), ("val", "values"), ("tb", "tbreak"),
    ],
)  # fmt: skip
def test_letters_and_unique_prefixes(word: str, name: str) -> None:
    assert find_command(word).name == name


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("contnue", "No command 'contnue'. Nearest: continue."),
        ("xyzzy", "No command 'xyzzy'. help lists them."),
        ("sta", "'sta' is short for several commands: stats, status."),
        ("why wq", f"why is not in this version. {LATER['why']}"),
        ("colectives", f"No command 'colectives'; collectives is not in this version either. {LATER['collectives']}"),
        ("ignore 1", "COUNT is missing.\nUsage: ignore ID COUNT"),
        ("ignore one 2", "'one' is no whole number.\nUsage: ignore ID COUNT"),
        ("detach now", "Unexpected 'now'.\nUsage: detach"),
        ("where --deep 2", "No flag --deep: there is --depth.\nUsage: where [RANKS] [--depth DEPTH]"),
        ("where --depth", "--depth needs a value.\nUsage: where [RANKS] [--depth DEPTH]"),
        (
            "break emb foward",
            "'foward' is none of forward, backward, end.\n"
            "Usage: break MODULE|FILE:LINE [forward|backward|end] [if EXPR]",
        ),
        ("break train.py:x", "'x' is no line number. Expected FILE:LINE, such as train.py:47."),
        ("break train.py:3 end", "'end' is for modules: a line has no end."),
        ("delete 7", "No breakpoint 7: there is none."),
        ("@tp=7 print x", "No rank has tp=7."),
        ("@pp=0 print x", "No mesh axis 'pp': this job's axes are dp, tp."),
        ("@0", "A command is missing after @RANKS: @tp=1 print x.shape."),
        ("set widht 80", "No setting 'widht'. Nearest: width."),
        ("step op", "step op is not in this version. step (or step module) goes on to the next module."),
        ("values emb.wieght[0:4]", "No tensor matches emb.wieght. Nearest: emb.weight."),
        ("values emb.weight[0:4:2]", "'0:4:2': slices have no step here. Nearest: 0:4."),
        ("next", "No rank in focus is stopped. break MODULE and continue, or pause, stops them."),
        ("shards layer.0", "layer.0 means 3 tensors: layer.0.attention.wq.weight, layer.0.attention.wk.weight, "
         "layer.0.attention.wo.weight. Choose one."),
    ],
)  # fmt: skip
def test_what_is_said_about_a_wrong_line(console: Console, line: str, message: str) -> None:
    with pytest.raises(DistdbgError) as raised:
        console.evaluate(line)
    assert str(raised.value) == message


@pytest.mark.parametrize("word", sorted(LATER))
def test_a_later_word_is_no_command_and_says_what_is_there(word: str) -> None:
    with pytest.raises(UsageError, match="not in this version"):
        find_command(word)


def test_break_reads_all_of_its_words(console: Console, session: Any) -> None:
    console.evaluate("@0-1 break layer.*.attention backward if x > 1 and y")
    point = session.rules[1].breakpoint
    assert (point.pattern, point.when, point.condition, point.focus) == (
        "layer.*.attention", "backward", "x > 1 and y", (0, 1),
    )  # fmt: skip
    console.evaluate("b train.py:47 if loss.isnan()")
    line = session.rules[2].breakpoint
    assert (line.file, line.line, line.condition, line.focus) == ("train.py", 47, "loss.isnan()", None)


def test_a_prefix_holds_for_one_command(console: Console, session: Any) -> None:
    session.answers[Evaluate] = lambda rank, request: Evaluated(repr=str(request.ranks))
    report = console.evaluate("@tp=1 print x")
    assert report.ranks == {1, 3}
    assert report.clusters == [(frozenset({1, 3}), {"repr": "(1, 3)"})]
    assert session.focus == {0, 1, 2, 3}
    assert session.focus_text == "all"


def test_aliases_take_words(console: Console, session: Any) -> None:
    console.evaluate("alias pw placements layer.%1.attention")
    assert len(console.evaluate("pw 0").clusters) == 4
    console.evaluate("alias loop loop")
    with pytest.raises(UsageError, match="leads back to itself"):
        console.evaluate("loop")


def test_every_command_explains_itself() -> None:
    for name, command in load_commands().items():
        assert command.family in FAMILIES, name
        assert command.summary.endswith("."), name
        assert len(command.summary) <= 68, f"{name}: its summary must fit in help"
        assert all(len(line) <= 100 for line in command.details.split("\n")), name
