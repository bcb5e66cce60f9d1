"""Slices as typed: `NAME[0:4, :8]` with Python's rules, without steps."""

from __future__ import annotations

import re

from distdbg.console.blocks import Box
from distdbg.errors import UsageError

_LAST_BRACKETS = re.compile(r"(?P<name>.*?)\[(?P<slices>[^\[\]]*)\]\s*", re.DOTALL)
_SLICE = re.compile(r"\s*(?P<low>-?\d+)?\s*(?P<colon>:\s*(?P<high>-?\d+)?)?\s*")
SHOWN = 6
"""Elements of a dim that is shown without having been asked for."""


def split_slices(text: str) -> tuple[str, list[str]]:
    """The name and its slices: `w[1, :]` is ("w", ["1", ":"]). An expression's own index stays with it."""
    match = _LAST_BRACKETS.fullmatch(text.strip())
    if not match or not match["name"].strip():
        if text.rstrip().endswith("]") or "[" not in text:
            return text.strip(), []
        raise UsageError(f"A bracket is open in {text!r}. Expected NAME[a:b, c:d].")
    slices = match["slices"].strip()
    return match["name"].strip(), [part.strip() for part in slices.split(",")] if slices else []


def read_slices(written: list[str], shape: tuple[int, ...]) -> tuple[Box, frozenset[int], bool]:
    """The box of global indices, the dims given by one index, and whether a dim was cut short for lack of a slice."""
    if len(written) > len(shape):
        raise UsageError(f"{len(written)} slices for {len(shape)} dims: the shape is [{', '.join(map(str, shape))}].")
    if "..." in written:
        at = written.index("...")
        written = [*written[:at], *[""] * (len(shape) - len(written) + 1), *written[at + 1 :]]
    written = written + [""] * (len(shape) - len(written))
    box: list[tuple[int, int]] = []
    dropped = set()
    is_cut = False
    for dim, (text, size) in enumerate(zip(written, shape, strict=True)):
        if not text:
            box.append((0, min(size, SHOWN)))
            is_cut = is_cut or size > SHOWN
            continue
        box.append(_read_slice(text, dim, size))
        if ":" not in text:
            dropped.add(dim)
    return tuple(box), frozenset(dropped), is_cut


def _read_slice(text: str, dim: int, size: int) -> tuple[int, int]:
    match = _SLICE.fullmatch(text)
    if not match or not text:
        if text.count(":") > 1:
            raise UsageError(f"{text!r}: slices have no step here. Nearest: {':'.join(text.split(':')[:2])}.")
        raise UsageError(f"{text!r} is no slice. Expected a:b, a:, :b, : or one index.")
    if not match["colon"]:
        index = int(match["low"])
        if not -size <= index < size:
            raise UsageError(f"Index {index} is out of range: dim {dim} has {size} ({-size} to {size - 1}).")
        return index % size, index % size + 1
    low, high, _ = slice(_number(match["low"]), _number(match["high"])).indices(size)
    if low >= high:
        raise UsageError(f"{text!r} is empty: dim {dim} has {size}.")
    return low, high


def _number(text: str | None) -> int | None:
    return int(text) if text else None
