"""Quantities with a unit and three significant digits."""

from __future__ import annotations

import math
from collections.abc import Sequence


def _scaled(value: float, steps: tuple[str, ...]) -> str:
    index = 0
    while abs(value) >= 999.5 and index < len(steps) - 1:
        value /= 1000
        index += 1
    digits = 0 if index == 0 else max(0, 2 - max(0, math.floor(math.log10(abs(value)) + 1e-12)))
    return f"{value:.{digits}f}{steps[index]}"


def size(size_bytes: int) -> str:
    """`1.30 kB`, `7.34 MB`; decimal units."""
    return _scaled(size_bytes, (" B", " kB", " MB", " GB", " TB", " PB"))


def count(number: int) -> str:
    """`61`, `481 k`, `7.24 G`."""
    return _scaled(number, ("", " k", " M", " G", " T"))


def count_range(numbers: Sequence[int]) -> str:
    """`11.7 k`, or `11.5 k to 11.7 k`."""
    return _range([count(number) for number in (min(numbers), max(numbers))])


def size_range(sizes_bytes: Sequence[int]) -> str:
    """`46.9 kB`, or `46.0 kB to 46.9 kB`."""
    return _range([size(number) for number in (min(sizes_bytes), max(sizes_bytes))])


def _range(ends: list[str]) -> str:
    return ends[0] if ends[0] == ends[1] else " to ".join(ends)


def duration(seconds: float) -> str:
    """`0.4 s`, `41 s`, `12 min`, `3.5 h`, `2 d`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    if seconds < 172_800:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 86_400:.0f} d"


def number(value: float | None, digits: int = 3) -> str:
    """A value with `digits` significant digits; `-` when there is none."""
    if value is None:
        return "-"
    return f"{value:.{digits}g}"


def plural(amount: int, noun: str) -> str:
    """`1 rank`, `4 ranks`."""
    return f"{amount} {noun}" + ("" if amount == 1 else "s")
