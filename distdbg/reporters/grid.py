"""Grids: blocks between bounds, drawn with box characters."""

from __future__ import annotations

from distdbg.reporters.view import Cell, Grid, Span, plain, spans

Line = list[Span]


def cell_width(grid: Grid) -> int:
    """The width that every block of this grid is drawn with."""
    content = max(len(plain(cell)) for row in grid.cells for cell in row) + 2
    label = max(len(str(bound)) for bound in grid.column_bounds) + 1
    columns = len(grid.column_bounds) - 1
    return max(content, label, 9 if columns <= 4 else 5)


def grid_width(grid: Grid) -> int:
    """Columns that the drawing takes."""
    return _margin(grid) + (cell_width(grid) + 1) * (len(grid.column_bounds) - 1) + 1


def draw_grid(grid: Grid) -> list[Line]:
    """The grid as lines."""
    width, margin = cell_width(grid), _margin(grid)
    num_columns = len(grid.column_bounds) - 1
    rows = len(grid.cells)
    lines: list[Line] = []
    if grid.column_title:
        lines.append([Span(" " * (margin + 2 if grid.row_bounds else margin) + grid.column_title)])
    labels = " " * margin + str(grid.column_bounds[0])
    for index, bound in enumerate(grid.column_bounds[1:], 1):
        labels = labels.ljust(margin + index * (width + 1) + 1 - len(str(bound))) + str(bound)
    lines.append([Span(labels)])
    middle = rows  # of the 2 * rows + 1 lines of the box
    for number in range(2 * rows + 1):
        side = _side(grid, number, middle, margin)
        if number % 2:
            lines.append([Span(side), *_blocks(grid.cells[number // 2], width)])
        else:
            left, joint, right = "┌┬┐" if number == 0 else "└┴┘" if number == 2 * rows else "├┼┤"
            lines.append([Span(side + left + joint.join(["─" * width] * num_columns) + right)])
    return lines


def _margin(grid: Grid) -> int:
    if not grid.row_bounds:
        return 0
    return max(map(len, grid.row_title)) + 2 + max(len(str(bound)) for bound in grid.row_bounds) + 1


def _side(grid: Grid, number: int, middle: int, margin: int) -> str:
    if not grid.row_bounds:
        return ""
    title = grid.row_title[number - middle] if 0 <= number - middle <= 1 else ""
    bound = str(grid.row_bounds[number // 2]) if number % 2 == 0 else ""
    return title + bound.rjust(margin - 1 - len(title)) + " "


def _blocks(cells: list[Cell], width: int) -> Line:
    line: Line = []
    for cell in cells:
        blank = width - len(plain(cell))
        line += [Span("│" + " " * (blank // 2)), *spans(cell), Span(" " * (blank - blank // 2))]
    return [*line, Span("│")]
