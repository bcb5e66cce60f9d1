"""Values by global index as tables, with the rank that each row came from."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

from distdbg.console.blocks import Box
from distdbg.reporters.view import Column, Span, Table, View, ranks_span, stack, text

Value = tuple[float | int | bool | str, int]
"""A value and the rank that holds it."""


def draw_values(known: Mapping[tuple[int, ...], Value], box: Box, dropped: frozenset[int]) -> View:
    """A table of the last two dims for each index of the dims before; a dim given by one index is a title."""
    dims = [dim for dim in range(len(box)) if dim not in dropped]
    shown, rest = dims[-2:], [dim for dim in range(len(box)) if dim not in dims[-2:]]
    views: list[View] = []
    for outer in itertools.product(*(range(*box[dim]) for dim in rest)):
        fixed = dict(zip(rest, outer, strict=True))
        if fixed and (len(shown) == 2 or len(box) > 2):
            words = [str(fixed[dim]) if dim in fixed else ":" for dim in range(len(box))]
            views.append(text(f"[{', '.join(words)}]"))
        views.append(_table(known, box, shown, fixed))
    return stack(*views)


def _table(known: Mapping[tuple[int, ...], Value], box: Box, shown: list[int], fixed: dict[int, int]) -> Table:
    columns = list(range(*box[shown[-1]])) if shown else [0]
    rows = list(range(*box[shown[0]])) if len(shown) == 2 else [None]
    table = Table(Column(align="right"), *(Column(str(i) if shown else "", "right") for i in columns), "", gap=2)
    for row in rows:
        cells: list[str | Span] = []
        ranks: set[int] = set()
        for column in columns:
            index = dict(fixed)
            if shown:
                index[shown[-1]] = column
            if row is not None:
                index[shown[0]] = row
            found = known.get(tuple(index[dim] for dim in range(len(box))))
            cells.append(format_value(found[0]) if found else Span("?", "outlier"))
            if found:
                ranks.add(found[1])
        whose = (("  rank " if len(ranks) == 1 else "  ranks "), ranks_span(ranks)) if ranks else ""
        table.add("" if row is None else str(row), *cells, whose)
    return table


def format_value(value: float | int | bool | str) -> str:
    """`0.0131`; a float in four decimals where that shows three digits, else in scientific form."""
    if isinstance(value, bool | str | int):
        return str(value)
    if value == 0 or (0.01 <= abs(value) < 1000):
        return f"{value:.4f}"
    return f"{value:.3e}" if value == value and abs(value) != float("inf") else str(value)
