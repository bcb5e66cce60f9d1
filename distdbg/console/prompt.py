"""The interactive prompt. prompt_toolkit is imported only by this file, and this file only at a terminal."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prompt_toolkit import PromptSession
from prompt_toolkit.application import Application
from prompt_toolkit.auto_suggest import AutoSuggestFromHistory
from prompt_toolkit.completion import CompleteEvent, Completer, Completion, ThreadedCompleter
from prompt_toolkit.document import Document
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.lexers import PygmentsLexer
from prompt_toolkit.patch_stdout import patch_stdout
from prompt_toolkit.styles import Style

from distdbg.console.completion import complete
from distdbg.console.lexer import CommandLexer
from distdbg.console.registry import find_command
from distdbg.console.toolbar import Toolbar
from distdbg.errors import DistdbgError

if TYPE_CHECKING:
    from distdbg.console.console import Console

PROMPT = "(distdbg) "
STYLE = Style.from_dict({"bottom-toolbar": "noreverse bg:#303030 #d0d0d0", "pygments.keyword": "bold"})


class ConsoleCompleter(Completer):
    """Completion of `console`'s lines."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        for each in complete(self._console, document.text_before_cursor):
            shown = each.text.rpartition(".")[2] if "." in each.text and "/" not in each.text else each.text
            yield Completion(each.text, -each.length, display=shown, display_meta=each.meta)


def history_path() -> Path:
    """Where lines are kept between sessions."""
    base = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    return Path(base) / "distdbg" / "history"


def open_history() -> History:
    """The history file, private to the user; in memory where it cannot be written."""
    path = history_path()
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.touch(mode=0o600)
    except OSError:
        return InMemoryHistory()
    return FileHistory(str(path))


def make_prompt(console: Console, history: History | None = None, **options: Any) -> PromptSession[str]:
    """The prompt of `console`; `options` go to PromptSession (an input and output for tests)."""
    toolbar = Toolbar(console)
    is_dumb = os.environ.get("TERM", "") == "dumb"
    return PromptSession(
        PROMPT,
        completer=ThreadedCompleter(ConsoleCompleter(console)),
        complete_while_typing=False,
        history=history or open_history(),
        auto_suggest=AutoSuggestFromHistory(),
        lexer=None if is_dumb or os.environ.get("NO_COLOR") else PygmentsLexer(CommandLexer),
        bottom_toolbar=None if is_dumb else toolbar.draw,
        refresh_interval=0.5,
        style=STYLE,
        key_bindings=_keys(),
        **options,
    )


def _keys() -> KeyBindings:
    keys = KeyBindings()

    @keys.add("f2")
    def _(event: KeyPressEvent) -> None:
        """Between emacs and vi keys."""
        from prompt_toolkit.enums import EditingMode

        is_emacs = event.app.editing_mode == EditingMode.EMACS
        event.app.editing_mode = EditingMode.VI if is_emacs else EditingMode.EMACS

    return keys


def run_prompt(console: Console, prompt: PromptSession[str] | None = None) -> None:
    """Read and run lines until the user leaves. Ctrl-C drops the line or interrupts the command, Ctrl-D leaves."""
    prompt = prompt or make_prompt(console)
    more: PromptSession[str] = PromptSession(history=InMemoryHistory(), input=prompt.input, output=prompt.output)
    console.read_more = lambda words: str(more.prompt(words))
    console.confirm = lambda question: _confirm(more, question)
    console.wake = lambda: _wake(prompt)
    for line in _lines(console, prompt):
        try:
            console.run(line)
        except KeyboardInterrupt:  # between two lines of a breakpoint's commands
            console.output.note("Interrupted.")
        except EOFError:
            break
        if console.is_done:
            break


def _lines(console: Console, prompt: PromptSession[str]) -> Iterator[str]:
    """What is typed; in between, empty lines that only run the commands of a stop that has come meanwhile."""
    line: str | _Woken | None
    typed = Document()
    while True:
        while console.pending:
            yield ""
        try:
            # Only while typing: what a command prints needs no redrawing, and a pager wants the real terminal.
            with patch_stdout(raw=True):
                line = prompt.prompt(default=typed)
        except KeyboardInterrupt:
            line = None
        except EOFError:
            return
        finally:
            prompt.app.erase_when_done = False
        typed = line.typed if isinstance(line, _Woken) else Document()
        if isinstance(line, str):
            yield line.strip() or _repeated(console)


@dataclass(frozen=True)
class _Woken:
    """The prompt was left for the commands of a breakpoint; `typed` comes back afterwards."""

    typed: Document


def _wake(prompt: PromptSession[str]) -> None:
    """Leave the prompt, from any thread; where it is not open, it looks before it opens."""
    app: Application[Any] = prompt.app

    def leave() -> None:
        if app.is_running and not app.is_done:
            app.erase_when_done = True
            app.exit(result=_Woken(prompt.default_buffer.document))

    if app.loop is not None and app.is_running:
        with contextlib.suppress(RuntimeError):  # the loop has been closed: the line was entered just now
            app.loop.call_soon_threadsafe(leave)


def _repeated(console: Console) -> str:
    """The line that an empty one stands for: the last, when it was a command that is repeated."""
    line = console.last_line
    try:
        is_repeated = bool(line) and console.split_command(_without_prefix(line))[0].is_repeated
    except DistdbgError:
        return ""
    if is_repeated and console.split_command(_without_prefix(line))[0] is find_command("list"):
        return "list"
    return line if is_repeated else ""


def _without_prefix(line: str) -> str:
    return line.partition(" ")[2].strip() if line.startswith("@") else line


def _confirm(prompt: PromptSession[str], question: str) -> bool:
    try:
        return str(prompt.prompt(f"{question} (y or n) ")).strip().lower() in ("y", "yes")
    except (KeyboardInterrupt, EOFError):
        return False
