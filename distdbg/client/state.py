"""What the client knows about each rank. `handle(message) -> [change]`: no socket, thread or clock in here."""

from __future__ import annotations

from dataclasses import dataclass, field

from distdbg.schema.ranks import Ranks
from distdbg.schema.stop import Stop


@dataclass
class RankState:
    """One rank: `status` is running, stopped or lost; `stop` is set while it is stopped."""

    rank: int
    status: str = "running"
    stop: Stop | None = None
    iteration: int = 0
    lost_reason: str = ""


@dataclass(frozen=True)
class StopCluster:
    """Ranks stopped at the same event."""

    ranks: Ranks
    stop: Stop


@dataclass(frozen=True)
class StopReport:
    """What one stop looks like over all ranks: who is stopped where, and what the others do (rank -> phrase)."""

    clusters: tuple[StopCluster, ...]
    others: dict[int, str] = field(default_factory=dict)
    note: str = ""

    @property
    def ranks(self) -> Ranks:
        """Every stopped rank."""
        return frozenset().union(*(cluster.ranks for cluster in self.clusters)) if self.clusters else frozenset()


@dataclass(frozen=True)
class StopAnnounced:
    """Ranks have stopped for the user."""

    report: StopReport


@dataclass(frozen=True)
class RankWasLost:
    """A rank went away; `reason` is a sentence part: `exited`, `killed by signal 9`, `does not answer`."""

    rank: int
    reason: str


@dataclass(frozen=True)
class RankRan:
    """A rank runs again without this client's wish: the lease ran out, its process was signalled."""

    rank: int
    reason: str


@dataclass(frozen=True)
class WarningGiven:
    """A rank has something to say that the user must know."""

    rank: int
    text: str


Change = StopAnnounced | RankWasLost | RankRan | WarningGiven
