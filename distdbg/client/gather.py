"""One result per rank, some of which are errors: a silent rank never hides the others' answers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from distdbg.schema.message import AnyReply, Failure
from distdbg.schema.ranks import Ranks


@dataclass(frozen=True)
class Gathered:
    """What came back for one request: replies, failures (the rank refused or could not), and silent ranks with why.

    Reasons in `missing`: `slow` (no answer by the deadline), `gil-held` (alive, and its Python does not run),
    `gone`, `restarted`.
    """

    replies: dict[int, AnyReply] = field(default_factory=dict)
    failures: dict[int, Failure] = field(default_factory=dict)
    missing: dict[int, str] = field(default_factory=dict)

    @property
    def ranks(self) -> Ranks:
        """Every rank that was asked."""
        return frozenset(self.replies) | frozenset(self.failures) | frozenset(self.missing)

    def __iter__(self) -> Iterator[tuple[int, AnyReply | Failure]]:
        """(rank, reply or failure) in rank order."""
        yield from sorted({**self.replies, **self.failures}.items())
