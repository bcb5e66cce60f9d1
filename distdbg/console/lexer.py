"""Colours of the line that is being typed."""

from __future__ import annotations

from pygments.lexer import RegexLexer, bygroups, using
from pygments.lexers.python import PythonLexer
from pygments.token import Comment, Keyword, Name, Number, Text, Whitespace


class CommandLexer(RegexLexer):
    """@RANKS, the command's word, then names or Python."""

    name = "distdbg"
    tokens = {  # noqa: RUF012  (pygments wants a plain dict)
        "root": [
            (r"\s*#.*", Comment),
            (r"@\S+", Number),
            (r"\s+", Whitespace),
            (
                r"(!|exec\b|print\b|p\b|condition\s+\d+)(\s*)(.*)",
                bygroups(Keyword, Whitespace, using(PythonLexer)),  # type: ignore[no-untyped-call]
            ),
            (r"[A-Za-z_?]\w*", Keyword, "arguments"),
            (r".", Text),
        ],
        "arguments": [
            (r"(\s+if\s+)(.*)", bygroups(Keyword, using(PythonLexer))),  # type: ignore[no-untyped-call]
            (r"--\w[\w-]*", Name.Attribute),
            (r"\b(forward|backward|end)\b", Name.Builtin),
            (r"\d+\b", Number),
            (r"[^\s\d-]+", Name),
            (r".", Text),
        ],
    }
