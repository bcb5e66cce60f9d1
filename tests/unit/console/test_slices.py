"""Slices as typed."""

from __future__ import annotations

import pytest

from distdbg.console.slices import read_slices, split_slices
from distdbg.errors import UsageError


@pytest.mark.parametrize(
    ("text", "name", "slices"),
    [
        ("w[17:19, 0:3]", "w", ["17:19", "0:3"]),
        ("w", "w", []),
        ("w[]", "w", []),
        ("model.layers[0].w[1, :]", "model.layers[0].w", ["1", ":"]),
    ],
)
def test_names_and_slices(text: str, name: str, slices: list[str]) -> None:
    assert split_slices(text) == (name, slices)


@pytest.mark.parametrize(
    ("written", "shape", "box", "dropped", "is_cut"),
    [
        (["17:19", "0:3"], (36, 36), ((17, 19), (0, 3)), set(), False),
        (["-2:", ":4"], (10, 10), ((8, 10), (0, 4)), set(), False),
        (["-1"], (10, 10), ((9, 10), (0, 6)), {0}, True),
        (["...", "1"], (2, 3, 4), ((0, 2), (0, 3), (1, 2)), {2}, False),
        (["5:99"], (10,), ((5, 10),), set(), False),
        ([], (), (), set(), False),
    ],
)
def test_boxes(
    written: list[str],
    shape: tuple[int, ...],
    box: tuple[tuple[int, int], ...],
    dropped: set[int],
    is_cut: bool,
) -> None:
    assert read_slices(written, shape) == (box, dropped, is_cut)


@pytest.mark.parametrize(
    ("written", "message"),
    [
        (["1", "2", "3"], "3 slices for 2 dims: the shape is [4, 4]."),
        (["4"], "Index 4 is out of range: dim 0 has 4 (-4 to 3)."),
        (["3:2"], "'3:2' is empty: dim 0 has 4."),
        (["a:b"], "'a:b' is no slice. Expected a:b, a:, :b, : or one index."),
    ],
)
def test_what_is_wrong_is_said(written: list[str], message: str) -> None:
    with pytest.raises(UsageError) as raised:
        read_slices(written, (4, 4))
    assert str(raised.value) == message
