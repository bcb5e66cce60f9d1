"""Views drawn for people."""

from __future__ import annotations

from distdbg.reporters.grid import draw_grid
from distdbg.reporters.paint import paint
from distdbg.reporters.table import draw_table, tabulated
from distdbg.reporters.terminal import Terminal
from distdbg.reporters.tree import tree_table
from distdbg.reporters.view import Grid, Span, Stack, Table, Text, Tree, View, spans


def draw(view: View, terminal: Terminal, table_style: str = "plain") -> str:
    """The view as text without a newline at its end."""
    return "\n".join(_lines(view, terminal, table_style))


def _lines(view: View, terminal: Terminal, table_style: str) -> list[str]:
    if isinstance(view, Stack):
        return [line for part in view.views for line in _lines(part, terminal, table_style)]
    if isinstance(view, Table) and table_style != "plain" and any(column.title for column in view.columns):
        return tabulated(view, table_style).splitlines()
    return [paint(line, terminal) for line in _spans(view, terminal)]


def _spans(view: Text | Table | Tree | Grid, terminal: Terminal) -> list[list[Span]]:
    if isinstance(view, Text):
        return [piece for line in view.lines for piece in _split(list(spans(line)))]
    if isinstance(view, Table):
        return draw_table(view, terminal.width)
    if isinstance(view, Tree):
        return draw_table(tree_table(view), terminal.width)
    return draw_grid(view)


def _split(line: list[Span]) -> list[list[Span]]:
    lines: list[list[Span]] = [[]]
    for span in line:
        first, *rest = span.text.split("\n")
        lines[-1].append(Span(first, span.meaning))
        lines.extend([Span(piece, span.meaning)] for piece in rest)
    return lines
