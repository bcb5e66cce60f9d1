"""`shards`: a drawing of who holds which block of a tensor."""

from __future__ import annotations

import itertools

from distdbg.console.answers import report_answers
from distdbg.console.blocks import Box, Layout, blocks_of, read_layout
from distdbg.console.console import Console
from distdbg.console.registry import command
from distdbg.console.report import Report
from distdbg.console.syntax import TensorName
from distdbg.console.tensors import ask_one_tensor, layout_hints, tensor_clusters, tensor_data
from distdbg.reporters import shape
from distdbg.reporters.grid import grid_width
from distdbg.reporters.view import Cell, Column, Grid, Span, Table, Text, View, ranks_span, stack, text
from distdbg.schema.tensor import Tensor

MAX_GRIDS = 8


@command("shards", family="look")
def shards(console: Console, name: TensorName) -> Report:
    """Draw who holds which block of a tensor.
     A dim that is not split is not drawn. Beyond two split dims there is a drawing for each block of
    the rest.

        shards layer.0.attention.wo.weight
    """
    gathered, tensors = ask_one_tensor(console, name)
    tensor = next(iter(tensors.values()))
    layout = read_layout(tensors)
    width = console.settings.width or getattr(getattr(console.output, "terminal", None), "width", None) or 100
    head = text((f"{shape.typed(tensor)}  ", Span(shape.placed(tensor) or f"plain {tensor.kind}", "placement")))
    below = Text()
    if layout.empty:
        below.add("empty: ", ranks_span(layout.empty, "outlier"))
    if layout.outside:
        below.add("outside the mesh: ", ranks_span(layout.outside, "outlier"))
    if not tensor.placements:
        below.add("plain: each rank holds its own whole copy")
    below.lines += layout_hints(console, tensors)
    view = stack(head, *draw_layout(layout, tensor, width), below)
    return report_answers(view, gathered, tensor_clusters({tensor.fqn: tensors}, tensor_data))


def draw_layout(layout: Layout, tensor: Tensor, width: int) -> list[View]:
    """The layout as a bar, a grid, several grids, or a list where no drawing fits."""
    if not layout.owners:
        return [text("no rank holds any of it")]
    if not layout.is_tiled:
        note = "The shards are not contiguous: rows interleave. First index and local shape of each:"
        return [text(note), _list(layout)]
    dims = sorted(layout.split_dims[:2])
    rest = sorted(layout.split_dims[2:])
    blocks = blocks_of(layout, rest)
    if len(blocks) > MAX_GRIDS:
        return [_list(layout)]
    views: list[View] = []
    for block in blocks:
        if rest:
            where = " ".join(f"dim {dim} [{low}:{high}]" for dim, (low, high) in zip(rest, block, strict=True))
            views.append(text(where))
        grid = _grid(layout, tensor, dims, dict(zip(rest, block, strict=True)))
        if grid_width(grid) > width or len(grid.cells) > 32:
            return [_list(layout)]
        views.append(grid)
    return views


def _grid(layout: Layout, tensor: Tensor, dims: list[int], fixed: dict[int, tuple[int, int]]) -> Grid:
    across = dims[-1] if dims else max(0, len(layout.shape) - 1)
    down = dims[0] if len(dims) == 2 else None
    if not layout.shape:
        return Grid([0, 1], [[_cell(layout, ())]], column_title="scalar")
    columns = layout.bounds(across)
    rows = layout.bounds(down) if down is not None else []
    cells: list[list[Cell]] = []
    for low, high in itertools.pairwise(rows) if down is not None else [(0, 0)]:
        line: list[Cell] = []
        for left, right in itertools.pairwise(columns):
            box = [fixed.get(dim, (0, size)) for dim, size in enumerate(layout.shape)]
            box[across] = (left, right)
            if down is not None:
                box[down] = (low, high)
            line.append(_cell(layout, tuple(box)))
        cells.append(line)
    title = (f"dim {down}", " " + _axes(tensor, down)) if down is not None else ("", "")
    axes = _axes(tensor, across)
    return Grid(columns, cells, rows, title, f"dim {across}" + (f" · {axes}" if axes else ""))


def _cell(layout: Layout, box: Box) -> Cell:
    ranks = layout.holders(box)
    return ranks_span(ranks) if ranks else Span("?", "outlier")


def _axes(tensor: Tensor, dim: int) -> str:
    """The mesh axes that shard a dim, the outer cut first: `dp tp`; a strided shard is cut inside the later ones."""
    placed = zip(tensor.placements, tensor.axes, strict=False)
    found = [(word, axis) for word, axis in placed if shape.sharded_dim(word, len(tensor.shape)) == dim]
    return " ".join(axis for _, axis in sorted(found, key=lambda each: each[0].startswith("_")))


def _list(layout: Layout) -> Table:
    table = Table("ranks", Column("block", "right"), Column("local", "right"), indent=2)
    for box, ranks in layout.owners.items():
        block = "[" + ", ".join(f"{low}:{high}" for low, high in box) + "]"
        start = "[" + ", ".join(str(low) for low, _ in box) + "]"
        sizes = shape.shape([high - low for low, high in box])
        table.add(ranks_span(ranks), block if layout.is_tiled else start, sizes)
    return table
