"""Views drawn for people."""

from __future__ import annotations

import re

from distdbg.reporters.grid import draw_grid
from distdbg.reporters.paint import paint
from distdbg.reporters.table import draw_table, tabulated
from distdbg.reporters.terminal import Terminal
from distdbg.reporters.tree import tree_table
from distdbg.reporters.view import Grid, Span, Stack, Table, Text, Tree, View, spans

_WORDS = re.compile(r"\S+\s*|\s+")


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
        lines = [piece for line in view.lines for piece in _split(list(spans(line)))]
        return [piece for line in lines for piece in wrap(line, terminal.width)]
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


def wrap(line: list[Span], width: int | None) -> list[list[Span]]:
    """The line in pieces of at most `width`, broken between words, never in source; the rest is indented by two."""
    length = sum(len(span.text) for span in line)
    if width is None or length <= width or any(span.meaning == "source" for span in line):
        return [line]
    lead = len(line[0].text) - len(line[0].text.lstrip()) + 2
    pieces: list[list[Span]] = [[]]
    room = width
    for span in line:
        for word in _WORDS.findall(span.text):
            if len(word.rstrip()) > room and pieces[-1]:
                pieces.append([Span(" " * lead)])
                room = width - lead
                word = word.lstrip()
            pieces[-1].append(Span(word, span.meaning))
            room -= len(word)
    return pieces
