"""Sets of ranks as people write them: `0-3,7`, `all`, `stopped`, `tp=1`, `dp=0:2`, `!0`, and combinations."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TypeAlias

import msgspec

from distdbg.errors import UsageError

Ranks: TypeAlias = frozenset[int]
"""A set of global ranks; write it with `format_ranks`, read it with `parse_ranks`."""

_TERM = re.compile(r"(?P<low>\d+)(-(?P<high>\d+))?|(?P<axis>[A-Za-z_]\w*)=(?P<start>\d+)(:(?P<stop>\d+))?")


class RankContext(msgspec.Struct, frozen=True):
    """What a rank set may refer to: all ranks, their states and their mesh coordinates (rank -> {axis: index})."""

    ranks: Ranks
    stopped: Ranks = frozenset()
    running: Ranks = frozenset()
    coordinates: Mapping[int, Mapping[str, int]] = {}

    @property
    def axes(self) -> tuple[str, ...]:
        """Names of all mesh axes, in the order in which they were met."""
        return tuple(dict.fromkeys(axis for where in self.coordinates.values() for axis in where))


def format_ranks(ranks: Iterable[int]) -> str:
    """Write ranks the short way: {0, 1, 2, 7} is `0-2,7`; the empty set is `none`."""
    runs: list[list[int]] = []
    for rank in sorted(set(ranks)):
        if runs and rank == runs[-1][1] + 1:
            runs[-1][1] = rank
        else:
            runs.append([rank, rank])
    return ",".join(str(low) if low == high else f"{low}-{high}" for low, high in runs) or "none"


def parse_ranks(text: str, context: RankContext) -> Ranks:
    """Read a rank set.

    `0-3,7` numbers and ranges; `all`, `stopped`, `running`; `tp=1` and `dp=0:2` (half open, as in Python) by mesh
    axis, several axes joined by a comma narrow each other (`dp=0,tp=1` is one rank of a 2 x 2 mesh); `!` before a
    term takes it away. Raises UsageError that names the bad term and what there is.
    """
    plain: set[int] = set()
    narrowed: set[int] | None = None
    excluded: set[int] = set()
    terms = [term.strip() for term in text.split(",") if term.strip()]
    if not terms:
        raise UsageError("An empty rank set. Expected ranks such as 0-3,7, all, stopped, running or AXIS=INDEX.")
    for term in terms:
        members, is_axis = _read_term(term.removeprefix("!"), context)
        if term.startswith("!"):
            excluded |= members
        elif is_axis:
            narrowed = set(members) if narrowed is None else narrowed & members
        else:
            plain |= members
    if narrowed is None and not plain and all(term.startswith("!") for term in terms):
        plain = set(context.ranks)
    result = frozenset((plain | (narrowed or set())) - excluded)
    if not result:
        raise UsageError(f"No rank is in {text!r} now.")
    return result


def _read_term(term: str, context: RankContext) -> tuple[Ranks, bool]:
    words: dict[str, Ranks] = {"all": context.ranks, "stopped": context.stopped, "running": context.running}
    if term in words:
        return words[term], False
    match = _TERM.fullmatch(term)
    if not match:
        raise UsageError(f"{term!r} is no rank set. Expected 0-3,7, all, stopped, running or AXIS=INDEX.")
    if match["low"]:
        low, high = int(match["low"]), int(match["high"] or match["low"])
        found = frozenset(rank for rank in context.ranks if low <= rank <= high)
        if not found or len(found) != high - low + 1:
            raise UsageError(f"No rank {term}: this job has ranks {format_ranks(context.ranks)}.")
        return found, False
    axis, start = match["axis"], int(match["start"])
    stop = int(match["stop"]) if match["stop"] else start + 1
    if axis not in context.axes:
        there = ", ".join(context.axes) or "none"
        raise UsageError(f"No mesh axis {axis!r}: this job's axes are {there}.")
    found = frozenset(r for r, where in context.coordinates.items() if start <= where.get(axis, -1) < stop)
    if not found:
        raise UsageError(f"No rank has {term}.")
    return found, True
