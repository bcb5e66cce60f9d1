"""How a name that the user types finds the dotted names of a model. Pure: strings in, strings out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase

from distdbg.errors import UnknownName

INVISIBLE = frozenset({"_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_orig_mod", "_torch_params"})
"""Components that wrappers add: never part of a name the user means, so dropped from what is typed."""


def split_name(text: str) -> tuple[str, ...]:
    """Components of a typed name: `/` is `.` (Keras), wrapper components are dropped."""
    parts = text.strip().replace("/", ".").split(".")
    return tuple(part for part in parts if part and part not in INVISIBLE)


def is_glob(text: str) -> bool:
    """Whether the text has a wildcard. `[0]` is an index, not a character class."""
    return any(sign in text for sign in "*?")


def match_names(text: str, names: Sequence[str]) -> list[str]:
    """Names that `text` means, in their given order.

    Exactly; else as a suffix at component borders (`layer.0.attention`); else as a glob, in which each component
    matches one component (`layers.*.attention`, `*attention`); else as a glob over the whole name. A leading
    `module.`, which DDP's own names have, is dropped when nothing matches with it.
    """
    parts = split_name(text)
    found = _match(parts, names)
    if not found and len(parts) > 1 and parts[0] == "module":
        found = _match(parts[1:], names)
    return found


def nearest_names(text: str, names: Iterable[str], count: int = 3) -> list[str]:
    """Up to `count` names that look most like the text, compared over as many trailing components as it has."""
    parts = split_name(text)
    if not parts:
        return []
    by_tail: dict[str, str] = {}
    for name in names:
        by_tail.setdefault(".".join(name.split(".")[-len(parts) :]), name)
    close = get_close_matches(".".join(parts), list(by_tail), count, 0.6)
    return [by_tail[tail] for tail in close]


def unknown_name(kind: str, text: str, names: Sequence[str], listing: str = "modules") -> UnknownName:
    """The error for a name that matches nothing: what was typed, the nearest, and the command that lists them.

    `No module matches layer.0.atention. Nearest: layer.0.attention (modules *attention lists 3).`
    """
    sentence = f"No {kind} matches {text}."
    near = nearest_names(text, names)
    if not near:
        return UnknownName(f"{sentence} {listing} lists what there is.")
    last = near[0].rsplit(".", 1)[-1]
    total = len(match_names(f"*{last}", names))
    hint = f" ({listing} *{last} lists {total})" if total > 1 else ""
    return UnknownName(f"{sentence} Nearest: {', '.join(near)}{hint}.")


def _match(parts: tuple[str, ...], names: Sequence[str]) -> list[str]:
    if not parts:
        return [name for name in names if name == ""]
    text = ".".join(parts)
    if not is_glob(text):
        exact = [name for name in names if name == text]
        return exact or [name for name in names if name.endswith("." + text)]
    # fnmatch reads [ as a character class; a name has none, an index such as [0] may follow one.
    patterns = [re.sub(r"\[", "[[]", part) for part in parts]
    found = []
    for name in names:
        tail = name.split(".")[-len(parts) :]
        if len(tail) == len(parts) and name and all(map(fnmatchcase, tail, patterns)):
            found.append(name)
    return found or [name for name in names if name and fnmatchcase(name, ".".join(patterns))]
