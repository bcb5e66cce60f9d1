"""One JSON object per line: results of commands and what happens meanwhile (design.md, "The user's side")."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from distdbg.schema.ranks import Ranks


def result(
    command: str,
    ranks: Iterable[int],
    clusters: Iterable[tuple[Ranks, object]],
    missing: Mapping[int, str],
    error: str | None,
    error_type: str | None = None,
) -> str:
    """The line that answers one command."""
    return _encode(
        {
            "type": "result",
            "command": command,
            "ok": error is None,
            "ranks": sorted(ranks),
            "clusters": [{"ranks": sorted(members), "data": data} for members, data in clusters],
            "missing": [{"rank": rank, "reason": reason} for rank, reason in sorted(missing.items())],
            "error": error,
            **({"error_type": error_type} if error_type else {}),
        }
    )


def event(name: str, ranks: Iterable[int], **details: object) -> str:
    """The line that tells of something nobody asked for."""
    return _encode({"type": "event", "event": name, "ranks": sorted(ranks), **details})


def _encode(line: object) -> str:
    return msgspec.json.encode(line).decode()
