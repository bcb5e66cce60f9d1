"""What the place we write to can show."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TextIO


@dataclass(frozen=True)
class Terminal:
    """`width` is None where lines may be as long as they like (a pipe, a file)."""

    width: int | None = None
    height: int | None = None
    has_color: bool = False
    has_unicode: bool = True


def detect(stream: TextIO, environ: Mapping[str, str] | None = None) -> Terminal:
    """The terminal behind `stream`: no colour under NO_COLOR or TERM=dumb or away from a tty."""
    environ = os.environ if environ is None else environ
    is_tty = stream.isatty()
    is_dumb = environ.get("TERM", "") == "dumb"
    size = shutil.get_terminal_size((100, 24)) if is_tty else None
    return Terminal(
        width=size.columns if size else None,
        height=size.lines if size else None,
        has_color=is_tty and not is_dumb and not environ.get("NO_COLOR"),
        has_unicode=_can_encode(stream),
    )


def _can_encode(stream: TextIO) -> bool:
    try:
        "●─┼→…·".encode(getattr(stream, "encoding", None) or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True
