"""Spans become characters: ANSI colour where there is colour, ASCII where there is no more than that."""

from __future__ import annotations

from collections.abc import Sequence

from distdbg.reporters.terminal import Terminal
from distdbg.reporters.view import Meaning, Span

_ANSI: dict[Meaning, str] = {
    "rank": "36", "placement": "32", "outlier": "33", "error": "31", "title": "1", "faint": "2",
}  # fmt: skip
_ASCII = str.maketrans(
    {"─": "-", "│": "|", "●": "*", "→": ">", "…": "~", "·": "-", "←": "<", "×": "x"} | dict.fromkeys("┌┐└┘├┤┬┴┼", "+")
)


def paint(line: Sequence[Span], terminal: Terminal) -> str:
    """One line, without trailing blanks."""
    written = list(line)
    while written and not written[-1].text.rstrip():
        written.pop()
    if written:
        written[-1] = Span(written[-1].text.rstrip(), written[-1].meaning)
    return "".join(_paint_span(span, terminal) for span in written)


def _paint_span(span: Span, terminal: Terminal) -> str:
    text = span.text if terminal.has_unicode else span.text.translate(_ASCII)
    if not terminal.has_color or not text.strip():
        return text
    if span.meaning == "source":
        return _highlight(text)
    code = _ANSI.get(span.meaning)
    return f"\x1b[{code}m{text}\x1b[0m" if code else text


def _highlight(text: str) -> str:
    from pygments import highlight
    from pygments.formatters import TerminalFormatter
    from pygments.lexers import PythonLexer

    lead = text[: len(text) - len(text.lstrip())]
    return lead + str(highlight(text.lstrip(), PythonLexer(), TerminalFormatter())).rstrip("\n")
