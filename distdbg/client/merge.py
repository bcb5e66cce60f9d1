"""Equal answers become one cluster, so that output grows with the number of different answers, not of ranks."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

import msgspec

from distdbg.schema.ranks import Ranks

T = TypeVar("T")


@dataclass(frozen=True)
class Cluster(Generic[T]):
    """Ranks that gave the same answer."""

    ranks: Ranks
    answer: T


def _identity(answer: object) -> bytes:
    return msgspec.msgpack.encode(answer)


def merge(answers: Iterable[tuple[int, T]], key: Callable[[T], object] = _identity) -> list[Cluster[T]]:
    """Clusters of equal answers, ordered by their lowest rank. `key` says what counts as equal (default: all of it)."""
    ranks: dict[object, set[int]] = {}
    first: dict[object, T] = {}
    for rank, answer in sorted(answers, key=lambda pair: pair[0]):
        identity = key(answer)
        ranks.setdefault(identity, set()).add(rank)
        first.setdefault(identity, answer)
    return [Cluster(frozenset(members), first[identity]) for identity, members in ranks.items()]
