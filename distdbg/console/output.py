"""Where reports go: text for people, or one JSON object per line."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol, TextIO

from distdbg.client.state import Change, RankRan, RankWasLost, StopAnnounced
from distdbg.console.announce import change_view, stop_data
from distdbg.console.banner import banner, job_data
from distdbg.console.report import Report
from distdbg.reporters import jsonl
from distdbg.reporters.terminal import Terminal, detect
from distdbg.reporters.text import draw
from distdbg.reporters.view import Span, View, text

if TYPE_CHECKING:
    from distdbg.client.session import Session
    from distdbg.console.settings import Settings
    from distdbg.errors import DistdbgError


class Output(Protocol):
    """What a console needs of its output."""

    def result(self, line: str, report: Report) -> None:
        """Show what a line led to."""

    def error(self, line: str, error: DistdbgError) -> None:
        """Show why a line failed."""

    def change(self, change: Change, *, is_awaited: bool) -> None:
        """Show what happened meanwhile; `is_awaited`: a command waits for it and will show it itself."""

    def greet(self, session: Session) -> None:
        """Say what was attached to."""

    def note(self, sentence: str) -> None:
        """Show a sentence."""


class TextOutput:
    """Views as text on standard output, errors on standard error."""

    def __init__(
        self,
        settings: Settings,
        terminal: Terminal | None = None,
        page: Callable[[str], None] | None = None,
    ) -> None:
        self.settings = settings
        self._terminal = terminal
        self._page = page

    def result(self, line: str, report: Report) -> None:
        drawn = self._draw(report.view)
        height = self.terminal.height
        if self._page and self.settings.pager and height and drawn.count("\n") >= height - 1:
            self._page(drawn)
        else:
            self._write(drawn)

    def error(self, line: str, error: DistdbgError) -> None:
        terminal = self._terminal or detect(sys.stderr)
        self._write(draw(text(Span(str(error), "error")), terminal), sys.stderr)

    def change(self, change: Change, *, is_awaited: bool) -> None:
        if not is_awaited:
            self.say(change_view(change))

    def greet(self, session: Session) -> None:
        self.say(banner(session))

    def say(self, view: View) -> None:
        """Show something that is no command's result."""
        self._write(self._draw(view))

    def note(self, sentence: str) -> None:
        self._write(sentence, sys.stderr)

    @property
    def terminal(self) -> Terminal:
        """What standard output can show now."""
        found = self._terminal or detect(sys.stdout)
        return replace(found, width=self.settings.width) if self.settings.width else found

    def _draw(self, view: View) -> str:
        return draw(view, self.terminal, self.settings.table)

    def _write(self, drawn: str, stream: TextIO | None = None) -> None:
        if drawn:
            stream = stream or sys.stdout
            stream.write(drawn + "\n")
            stream.flush()


class JsonOutput:
    """One JSON object per line on standard output: results, and events apart from them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def result(self, line: str, report: Report) -> None:
        error = report.error
        self._write(
            jsonl.result(
                line,
                report.ranks,
                report.clusters,
                report.missing,
                str(error) if error else None,
                type(error).__name__ if error else None,
            )
        )

    def error(self, line: str, error: DistdbgError) -> None:
        self._write(jsonl.result(line, (), (), {}, str(error), type(error).__name__))

    def change(self, change: Change, *, is_awaited: bool) -> None:
        if isinstance(change, StopAnnounced):
            for cluster in change.report.clusters:
                self._write(jsonl.event("stopped", cluster.ranks, stop=stop_data(cluster.stop)))
        elif isinstance(change, RankWasLost):
            self._write(jsonl.event("lost", (change.rank,), reason=change.reason))
        elif isinstance(change, RankRan):
            self._write(jsonl.event("resumed", (change.rank,), reason=change.reason))
        else:
            self._write(jsonl.event("warning", (change.rank,), text=change.text))

    def greet(self, session: Session) -> None:
        self._write(jsonl.event("attached", session.states, **job_data(session)))

    def note(self, sentence: str) -> None:
        sys.stderr.write(sentence + "\n")

    def _write(self, line: str) -> None:
        with self._lock:
            sys.stdout.write(line + "\n")
            sys.stdout.flush()
