"""Who holds what, beyond the even two-dimensional case."""

from __future__ import annotations

import textwrap
from typing import Any

from distdbg.console.blocks import read_layout
from distdbg.console.commands.shards import draw_layout
from distdbg.reporters.terminal import Terminal
from distdbg.reporters.text import draw
from distdbg.reporters.view import stack
from distdbg.schema.tensor import Tensor


def piece(shape: tuple[int, ...], offset: tuple[int, ...], local: tuple[int, ...], **fields: Any) -> Tensor:
    defaults: dict[str, Any] = {"axes": ("tp",), "placements": ("S(0)",), "coordinate": (0,), "mesh_shape": (4,)}
    return Tensor(
        fqn="w", kind="DTensor", shape=shape, dtype="float32", device="cpu", offset=offset, local_shape=local,
        **{**defaults, **fields},
    )  # fmt: skip


def drawing(tensors: dict[int, Tensor], width: int = 100) -> str:
    views = draw_layout(read_layout(tensors), next(iter(tensors.values())), width)
    return draw(stack(*views), Terminal())


def test_uneven_and_empty() -> None:
    tensors = {
        0: piece((5, 2), (0, 0), (2, 2)),
        1: piece((5, 2), (2, 0), (2, 2)),
        2: piece((5, 2), (4, 0), (1, 2)),
        3: piece((5, 2), (5, 0), (0, 2)),
        4: piece((5, 2), (), (), coordinate=None),
    }
    layout = read_layout(tensors)
    assert (layout.empty, layout.outside, layout.is_tiled) == (frozenset({3}), frozenset({4}), True)
    assert drawing(tensors) == textwrap.dedent("""\
        dim 0 · tp
        0         2         4         5
        ┌─────────┬─────────┬─────────┐
        │    0    │    1    │    2    │
        └─────────┴─────────┴─────────┘""")


def test_replicated_is_one_block() -> None:
    tensors = {rank: piece((4, 2), (0, 0), (4, 2), placements=("R",)) for rank in (0, 2)}
    assert drawing(tensors).splitlines()[2:4] == ["┌─────────┐", "│   0,2   │"]


def test_three_split_dims_have_one_grid_per_block_of_the_rest() -> None:
    tensors = {
        4 * a + 2 * b + c: piece((4, 4, 2), (2 * a, 2 * b, c), (2, 2, 1))
        for a in range(2) for b in range(2) for c in range(2)
    }  # fmt: skip
    shown = drawing(tensors).splitlines()
    assert shown[0] == "dim 2 [0:1]"
    blocks = [line[line.index("│") :] for line in shown if "│" in line]
    assert blocks[:2] == ["│    0    │    2    │", "│    4    │    6    │"]
    assert blocks[2:] == ["│    1    │    3    │", "│    5    │    7    │"]
    assert "dim 2 [1:2]" in shown


def test_interleaved_strided_shards_are_listed() -> None:
    tensors = {0: piece((8, 2), (0, 0), (4, 2)), 1: piece((8, 2), (2, 0), (4, 2))}
    assert drawing(tensors) == textwrap.dedent("""\
        The shards are not contiguous: rows interleave. First index and local shape of each:
          ranks    block    local
          0       [0, 0]   [4, 2]
          1       [2, 0]   [4, 2]""")


def test_too_wide_becomes_a_list() -> None:
    tensors = {rank: piece((64, 2), (rank, 0), (1, 2)) for rank in range(64)}
    shown = drawing(tensors).splitlines()
    assert len(shown) == 65
    assert shown[2] == "  1         [1:2, 0:2]   [1, 2]"


def test_a_scalar() -> None:
    assert "0-1" in drawing({rank: piece((), (), (), placements=("R",)) for rank in range(2)})
