"""Views: what a command wants to show, as data. `text` draws them; nothing here knows a terminal."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from distdbg.schema.ranks import format_ranks

Meaning = Literal["", "rank", "placement", "outlier", "error", "title", "faint", "source"]
"""Why a piece of text may be coloured; a colour never says anything that the text does not."""


@dataclass(frozen=True)
class Span:
    """A piece of one line with a meaning."""

    text: str
    meaning: Meaning = ""


Cell = str | Span | tuple[str | Span, ...]
"""What fits in a table's cell, a grid's cell or a line of text."""


def spans(cell: Cell) -> tuple[Span, ...]:
    """Any cell as spans."""
    parts = cell if isinstance(cell, tuple) else (cell,)
    return tuple(Span(part) if isinstance(part, str) else part for part in parts)


def plain(cell: Cell) -> str:
    """A cell without its meanings."""
    return "".join(span.text for span in spans(cell))


def ranks_span(ranks: Iterable[int], meaning: Meaning = "rank") -> Span:
    """Ranks, written the short way."""
    return Span(format_ranks(ranks), meaning)


@dataclass(frozen=True)
class Column:
    """A table's column."""

    title: str = ""
    align: Literal["left", "right", "center"] = "left"


@dataclass
class Text:
    """Lines, one below the other."""

    lines: list[Cell] = field(default_factory=list)

    def add(self, *parts: str | Span) -> None:
        """One more line."""
        self.lines.append(parts)


def text(*lines: Cell) -> Text:
    """A Text of these lines."""
    return Text(list(lines))


class Table:
    """Rows under columns. A column given as a bare title is left-aligned; without any title there is no header."""

    def __init__(self, *columns: Column | str, indent: int = 0, gap: int = 3) -> None:
        self.columns = [Column(column) if isinstance(column, str) else column for column in columns]
        self.rows: list[tuple[Cell, ...]] = []
        self.indent = indent
        self.gap = gap

    def add(self, *cells: Cell) -> None:
        """One more row; missing cells at its end are empty."""
        self.rows.append(cells + ("",) * (len(self.columns) - len(cells)))


class Tree:
    """Labels at depths, each with cells to its right; add them in order, parents first."""

    def __init__(self, *columns: Column | str) -> None:
        self.columns = columns
        self.nodes: list[tuple[int, Cell, tuple[Cell, ...]]] = []

    def add(self, depth: int, label: Cell, *cells: Cell) -> None:
        """One more node, below the last one of a smaller depth."""
        self.nodes.append((depth, label, cells))


@dataclass
class Grid:
    """Blocks between bounds: `cells[i][j]` lies in row_bounds[i:i+2] and column_bounds[j:j+2].

    Without row bounds it is a bar of one row. Titles have one line for rows' two parts (dim, axes) and one for columns.
    """

    column_bounds: list[int]
    cells: list[list[Cell]]
    row_bounds: list[int] = field(default_factory=list)
    row_title: tuple[str, str] = ("", "")
    column_title: str = ""


@dataclass
class Stack:
    """Views, one below the other."""

    views: list[View] = field(default_factory=list)


View = Text | Table | Tree | Grid | Stack


def stack(*views: View | None) -> Stack:
    """A Stack of the views that are there."""
    return Stack([view for view in views if view is not None])
