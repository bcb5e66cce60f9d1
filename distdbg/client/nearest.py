"""The nearest valid name to one that matches nothing."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest_names(name: str, names: Iterable[str], limit: int = 3) -> list[str]:
    """Up to `limit` names that look like `name`, best first.

    A short name is compared with the same number of components at a name's end: `0.atention` is near
    `layer.0.attention`, however long the rest is.
    """
    wanted = name.lower()
    components = wanted.count(".") + 1
    scores: dict[str, float] = {}
    matcher = difflib.SequenceMatcher(autojunk=False)
    matcher.set_seq2(wanted)
    for candidate in names:
        tail = ".".join(candidate.lower().split(".")[-components:])
        for text in {candidate.lower(), tail}:
            matcher.set_seq1(text)
            if matcher.real_quick_ratio() > 0.6 and matcher.quick_ratio() > 0.6:
                scores[candidate] = max(scores.get(candidate, 0.0), matcher.ratio())
    good = [candidate for candidate, score in scores.items() if score > 0.6]
    return sorted(good, key=lambda candidate: (-scores[candidate], len(candidate)))[:limit]
