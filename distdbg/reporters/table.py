"""Tables: columns as wide as they must be, cells of several lines, cut to the terminal's width."""

from __future__ import annotations

from collections.abc import Sequence

from distdbg.reporters.view import Cell, Column, Span, Table, plain, spans

Line = list[Span]


def draw_table(table: Table, width: int | None = None) -> list[Line]:
    """The table as lines."""
    rows = [[_split(cell) for cell in row] for row in table.rows]
    if any(column.title for column in table.columns):
        rows.insert(0, [[[Span(column.title, "faint")]] for column in table.columns])
    if not rows:
        return []
    widths = [max(_width(line) for row in rows for line in row[i]) for i in range(len(table.columns))]
    gap = _fit(widths, table, width)
    lines: list[Line] = []
    for row in rows:
        for number in range(max(len(cell) for cell in row)):
            pieces = [cell[number] if number < len(cell) else [] for cell in row]
            lines.append(_join(pieces, widths, table.columns, table.indent, gap))
    return lines


def _split(cell: Cell) -> list[Line]:
    lines: list[Line] = [[]]
    for span in spans(cell):
        first, *rest = span.text.split("\n")
        lines[-1].append(Span(first, span.meaning))
        lines.extend([Span(piece, span.meaning)] for piece in rest)
    return lines


def _width(line: Line) -> int:
    return sum(len(span.text) for span in line)


def _fit(widths: list[int], table: Table, width: int | None) -> int:
    """Narrow the gap, then the widest left-aligned column, until the table fits; returns the gap."""
    gap = table.gap
    present = [i for i, wide in enumerate(widths) if wide]
    if width is None:
        return gap
    fixed = table.indent + sum(widths)
    while gap > 1 and fixed + gap * (len(present) - 1) > width:
        gap -= 1
    excess = fixed + gap * (len(present) - 1) - width
    while excess > 0:
        candidates = [i for i in present if table.columns[i].align == "left" and widths[i] > 12]
        if not candidates:
            break
        widest = max(candidates, key=lambda i: widths[i])
        cut = min(excess, widths[widest] - 12)
        widths[widest] -= cut
        excess -= cut
    return gap


def _join(pieces: Sequence[Line], widths: Sequence[int], columns: Sequence[Column], indent: int, gap: int) -> Line:
    line: Line = [Span(" " * indent)]
    for piece, width, column in zip(pieces, widths, columns, strict=True):
        if width == 0:
            continue
        if len(line) > 1:
            line.append(Span(" " * gap))
        cut = _cut(piece, width)
        blank = width - _width(cut)
        left = {"left": 0, "right": blank, "center": blank // 2}[column.align]
        line += [Span(" " * left), *cut, Span(" " * (blank - left))]
    return line


def _cut(piece: Line, width: int) -> Line:
    if _width(piece) <= width:
        return piece
    kept: Line = []
    room = width - 1
    for span in piece:
        kept.append(Span(span.text[:room], span.meaning))
        room -= len(kept[-1].text)
        if room == 0:
            break
    return [*kept, Span("…")]


def tabulated(table: Table, style: str) -> str:
    """The table in a form to be pasted elsewhere (github, psql, tsv, html, latex, ...), drawn by tabulate."""
    from tabulate import tabulate

    # disable_numparse: otherwise a cell 1e3 is printed as 1000.
    return str(
        tabulate(
            [[plain(cell) for cell in row] for row in table.rows],
            headers=[column.title for column in table.columns],
            tablefmt=style,
            disable_numparse=True,
            colalign=[column.align for column in table.columns] if table.rows else None,
        )
    )
