"""Trees: branches in front of the labels, then a table like any other."""

from __future__ import annotations

from distdbg.reporters.view import Table, Tree, spans


def tree_table(tree: Tree) -> Table:
    """The tree as a table whose first column has the branches."""
    table = Table("", *tree.columns)
    depths = [depth for depth, _, _ in tree.nodes]
    for index, (depth, label, cells) in enumerate(tree.nodes):
        branches = ""
        for level in range(1, depth + 1):
            goes_on = _goes_on(depths, index, level)
            if level == depth:
                branches += "├─ " if goes_on else "└─ "
            else:
                branches += "│  " if goes_on else "   "
        table.add((branches, *spans(label)), *cells)
    return table


def _goes_on(depths: list[int], index: int, level: int) -> bool:
    """Whether another node of `level` follows before one closer to the root."""
    for depth in depths[index + 1 :]:
        if depth <= level:
            return depth == level
    return False
