"""Views as characters: with colour, without, in ASCII, in narrow terminals."""

from __future__ import annotations

import io

import pytest

from distdbg.reporters.terminal import Terminal, detect
from distdbg.reporters.text import draw
from distdbg.reporters.view import Column, Grid, Span, Table, Tree, stack, text

PLAIN = Terminal()


def table() -> Table:
    made = Table("ranks", Column("local", "right"), "note")
    made.add(Span("0-3", "rank"), "[9, 36]", "")
    made.add(Span("4", "rank"), "[7]", "odd\none")
    return made


def test_a_table() -> None:
    assert draw(table(), PLAIN).splitlines() == [
        "ranks     local   note",
        "0-3     [9, 36]",
        "4           [7]   odd",
        "                  one",
    ]


def test_colour_is_only_around_meaning() -> None:
    shown = draw(text((Span("0-3", "rank"), " ok ", Span("S(0)", "placement"))), Terminal(has_color=True))
    assert shown == "\x1b[36m0-3\x1b[0m ok \x1b[32mS(0)\x1b[0m"
    assert "\x1b" not in draw(table(), PLAIN)


def test_source_is_highlighted_only_in_colour() -> None:
    line = text((Span("    return x", "source"),))
    assert draw(line, PLAIN) == "    return x"
    assert "\x1b[" in draw(line, Terminal(has_color=True))


def test_ascii() -> None:
    grid = Grid([0, 2, 4], [["0", "1"]], column_title="dim 0 · tp")
    assert draw(stack(text("● here → …"), grid), Terminal(has_unicode=False)).splitlines() == [
        "* here > ~",
        "dim 0 - tp",
        "0         2         4",
        "+---------+---------+",
        "|    0    |    1    |",
        "+---------+---------+",
    ]


def test_a_narrow_terminal_cuts_the_widest_text() -> None:
    made = Table("name", Column("n", "right"))
    made.add("x" * 40, "12")
    assert draw(made, Terminal(width=30)).splitlines()[1] == "x" * 26 + "…" + " 12"


def test_a_tree() -> None:
    tree = Tree("class")
    for depth, label in [(0, "root"), (1, "a"), (2, "b"), (1, "c")]:
        tree.add(depth, label, "Linear")
    assert [line.split("  ")[0] for line in draw(tree, PLAIN).splitlines()[1:]] == ["root", "├─ a", "│", "└─ c"]
    assert draw(tree, PLAIN).splitlines()[3].startswith("│  └─ b")


@pytest.mark.parametrize("style", ["github", "psql", "tsv"])
def test_tables_for_elsewhere_keep_their_text(style: str) -> None:
    made = Table("name", Column("value", "right"))
    made.add("a", "1e3")
    assert "1e3" in draw(made, PLAIN, style)


class Tty(io.StringIO):
    encoding = "utf-8"  # type: ignore[assignment]

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("environ", "has_color"),
    [({}, True), ({"NO_COLOR": "1"}, False), ({"NO_COLOR": ""}, True), ({"TERM": "dumb"}, False)],
)
def test_colour_by_environment(environ: dict[str, str], has_color: bool) -> None:
    assert detect(Tty(), environ).has_color is has_color
    assert detect(io.StringIO(), environ).has_color is False


def test_ascii_by_encoding() -> None:
    assert detect(io.TextIOWrapper(io.BytesIO(), encoding="ascii"), {}).has_unicode is False
    assert detect(io.TextIOWrapper(io.BytesIO(), encoding="utf-8"), {}).has_unicode is True


def test_long_sentences_are_broken_between_words() -> None:
    line = text((Span("0-3", "rank"), "   one two three four"), (Span("x" * 30, "source"),))
    assert draw(line, Terminal(width=16)).splitlines() == ["0-3   one two", "  three four", "x" * 30]
