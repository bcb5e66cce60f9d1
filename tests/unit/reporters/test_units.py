"""Quantities."""

from __future__ import annotations

import pytest

from distdbg.reporters import shape, units


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [(0, "0 B"), (999, "999 B"), (1296, "1.30 kB"), (46_900, "46.9 kB"), (156_000, "156 kB"), (999_999, "1.00 MB"),
     (7_340_000_000, "7.34 GB")],
)  # fmt: skip
def test_sizes(size_bytes: int, text: str) -> None:
    assert units.size(size_bytes) == text


def test_the_rest() -> None:
    assert units.count(61) == "61"
    assert units.count(481_000) == "481 k"
    assert units.count_range([1000, 1000]) == "1.00 k"
    assert units.size_range([46_000, 46_900]) == "46.0 kB to 46.9 kB"
    assert [units.duration(s) for s in (0.41, 41, 720, 9000, 200_000)] == ["0.4 s", "41 s", "12 min", "2.5 h", "2 d"]
    assert [units.number(v) for v in (0.00121, -0.0961, None, float("nan"))] == ["0.00121", "-0.0961", "-", "nan"]
    assert units.plural(1, "rank") + units.plural(2, "rank") == "1 rank2 ranks"


@pytest.mark.parametrize(
    ("word", "dim"), [("S(0)", 0), ("S(-1)", 1), ("_S(1, 2)", 1), ("Shard(dim=1)", 1), ("R", None), ("P(sum)", None)]
)
def test_sharded_dim(word: str, dim: int | None) -> None:
    assert shape.sharded_dim(word, 2) == dim
