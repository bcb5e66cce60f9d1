"""What a command returns: a view for people, the same as data for `--json`, and what is missing."""

from __future__ import annotations

from dataclasses import dataclass, field

from distdbg.client.state import StopReport
from distdbg.errors import DistdbgError
from distdbg.reporters.view import Text, View
from distdbg.schema.ranks import Ranks


@dataclass
class Report:
    """The outcome of one command.

    `clusters` are (ranks, data) for `--json`; `error` is set when it failed on some ranks although `view` shows it;
    `stop` when the command ended in a stop, whose breakpoints' own commands then run.
    """

    view: View = field(default_factory=Text)
    clusters: list[tuple[Ranks, object]] = field(default_factory=list)
    ranks: Ranks = frozenset()
    missing: dict[int, str] = field(default_factory=dict)
    error: DistdbgError | None = None
    stop: StopReport | None = None
