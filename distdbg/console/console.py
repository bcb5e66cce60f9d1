"""One console on one session: reads lines, finds the command, runs it and hands the report to the output."""

from __future__ import annotations

import contextlib
import re
from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from distdbg.client.state import Change, RankWasLost, StopAnnounced, StopReport
from distdbg.console.output import Output
from distdbg.console.registry import Command, find_command
from distdbg.console.report import Report
from distdbg.console.settings import Settings
from distdbg.errors import DistdbgError, RankLost, UsageError
from distdbg.schema.message import ListModules, Locals, Modules, ReadLocals
from distdbg.schema.ranks import Ranks, format_ranks, parse_ranks

if TYPE_CHECKING:
    from distdbg.client.session import Session

_PREFIX = re.compile(r"@(\S+)\s*(.*)", re.DOTALL)
_WORD = re.compile(r"([A-Za-z_]\w*|!|\?)\s*(.*)", re.DOTALL)
_SEVERITY = {0: 0, 1: 1, 2: 2, 124: 3, 3: 4}


class Console:
    """The state that lines share: settings, aliases, history, whether to leave and with which exit status.

    `prefix` are the ranks of `@RANKS` while such a line runs; `read_more` reads the next line of a command that takes
    several (`commands ... end`). `rule_commands` outlive a temporary breakpoint. `pending` are the stops that nobody
    waited for whose commands are to run before the next line; `wake` tells a prompt, which then shows them too.
    """

    def __init__(self, session: Session, output: Output, settings: Settings | None = None) -> None:
        self.session = session
        self.output = output
        self.settings = settings or Settings()
        self.aliases: dict[str, str] = {}
        self.history: list[str] = []
        self.prefix: Ranks | None = None
        self.next_line: int | None = None
        self.last_command: Command | None = None
        self.last_line = ""
        self.scope: dict[str, object] = {}
        self.is_done = False
        self.is_interactive = False
        self.is_waiting = False
        self.exit_status = 0
        self.announced = {(rank, state.stop.hit) for rank, state in session.states.items() if state.stop}
        self.rule_commands: dict[int, list[str]] = {}
        self.pending: deque[StopAnnounced] = deque()
        self.wake: Callable[[], None] | None = None
        self.read_more: Callable[[str], str] | None = None
        self.confirm: Callable[[str], bool] = lambda question: True
        self._locals: tuple[object, list[str]] = (None, [])
        self._described: dict[str, str] | None = None
        session.subscribe(self.hear)

    # ---- lines ----

    def run(self, line: str) -> bool:
        """Run one line and the commands of the breakpoints it stops at; False when something failed."""
        self._run_pending()
        self._remember(line)
        return self._run_all([line])

    def _run_all(self, lines: Iterable[str]) -> bool:
        waiting = deque(lines)
        is_fine = True
        while waiting and not self.is_done:
            report = self._run_one(waiting.popleft())
            is_fine = is_fine and report is not None and report.error is None
            if report is not None and report.stop is not None:
                waiting.extendleft(reversed(self._own_commands(report.stop)))
        return is_fine

    def _run_pending(self) -> None:
        """The commands of breakpoints that have stopped the job while no command waited for it."""
        while self.pending and not self.is_done:
            stop = self.pending.popleft()
            if self.wake is not None:
                self.output.change(stop, is_awaited=False)
            self._run_all(self._own_commands(stop.report))

    def _remember(self, line: str) -> None:
        line = line.strip()
        if line and not line.startswith("#"):
            self.history.append(line)
            self.last_line = line

    def run_script(self, lines: Iterable[str]) -> bool:
        """Run lines up to the first failure; `-` before a command ignores its failure. False when one failed."""
        rest = deque(line.strip() for line in lines)
        before, self.read_more = self.read_more, lambda prompt: _next_line(rest)
        try:
            while rest and not self.is_done:
                line = rest.popleft()
                is_tolerant = line.startswith("-")
                if not self.run(line.removeprefix("-")) and not is_tolerant:
                    return False
        finally:
            self.read_more = before
        return True

    def evaluate(self, line: str) -> Report:
        """Run one line and return its report; raises DistdbgError."""
        prefix, rest = self._split_prefix(line)
        found, text = self.split_command(rest)
        if prefix is None:
            return self._call(found, text)
        session = self.session
        focus, focus_text = session.focus, session.focus_text
        session.focus, self.prefix = prefix, prefix
        try:
            return self._call(found, text)
        finally:
            session.focus, self.prefix = focus, None
            session.focus_text = focus_text

    def split_command(self, line: str) -> tuple[Command, str]:
        """The command of a line, aliases expanded, and the words after it; raises UsageError."""
        for _ in range(10):
            match = _WORD.match(line)
            if not match:
                raise UsageError(f"{line.split()[0] if line.split() else line!r} is no command. help lists them.")
            word, rest = match[1], match[2]
            if word not in self.aliases:
                return find_command(word), rest
            line = _expand(self.aliases[word], rest)
        raise UsageError(f"The alias {word!r} leads back to itself.")

    def _call(self, found: Command, text: str) -> Report:
        self.last_command = found
        if found.name != "list":
            self.next_line = None
        return found.run(self, text)

    def _run_one(self, line: str) -> Report | None:
        line = line.strip()
        if not line or line.startswith("#"):
            return Report()
        try:
            report = self.evaluate(line)
        except KeyboardInterrupt:
            self.output.note("Interrupted. The ranks go on as they were.")
            return None
        except DistdbgError as error:
            self.fail(line, error)
            return None
        if report.error is not None:
            self._note_status(report.error.exit_status)
        if any(self._is_lost(rank, reason) for rank, reason in report.missing.items()):
            self._note_status(3)
        self.output.result(line, report)
        return report

    def fail(self, line: str, error: DistdbgError) -> None:
        """Tell the user of a failed line."""
        self._note_status(error.exit_status)
        self.output.error(line, error)

    def _is_lost(self, rank: int, reason: str) -> bool:
        state = self.session.states.get(rank)
        return reason in ("gone", "restarted") or (state is not None and state.status == "lost")

    def _note_status(self, status: int) -> None:
        if _SEVERITY.get(status, 1) > _SEVERITY.get(self.exit_status, 1):
            self.exit_status = status

    def _split_prefix(self, line: str) -> tuple[Ranks | None, str]:
        match = _PREFIX.match(line)
        if not match:
            return None, line
        if not match[2]:
            raise UsageError("A command is missing after @RANKS: @tp=1 print x.shape.")
        return parse_ranks(match[1], self.session.context()), match[2]

    def _own_commands(self, stop: StopReport) -> list[str]:
        ids = dict.fromkeys(each.stop.breakpoint for each in stop.clusters)
        return [line for id in ids if id is not None for line in self.rule_commands.get(id, ())]

    # ---- what happens meanwhile ----

    def hear(self, change: Change) -> None:
        """Something happened (called from the session's own thread): show it, except the stop that we wait for."""
        is_awaited = False
        if isinstance(change, RankWasLost) and change.reason != "exited":
            self._note_status(RankLost.exit_status)
        if isinstance(change, StopAnnounced):
            is_awaited = self.is_waiting or self.is_announced(change.report)
            self.note_announced(change.report)
            if not is_awaited and self._own_commands(change.report):
                self.pending.append(change)
                if self.wake is not None:
                    self.wake()
                    return
        with contextlib.suppress(OSError):  # nobody reads our output any more: not the connection's business
            self.output.change(change, is_awaited=is_awaited)

    def note_announced(self, stop: StopReport) -> None:
        """The user has been told of this stop."""
        self.announced |= {(min(each.ranks), each.stop.hit) for each in stop.clusters}

    def is_announced(self, stop: StopReport) -> bool:
        """Whether the user has been told of all of this stop."""
        return all((min(each.ranks), each.stop.hit) in self.announced for each in stop.clusters)

    def has_announced_stop(self) -> bool:
        """Whether ranks stand at a stop that the user knows of; others may still be on their way to one."""
        states = self.session.states.items()
        return any(state.stop is not None and (rank, state.stop.hit) in self.announced for rank, state in states)

    def describe_names(self) -> dict[str, str]:
        """Names with what they are, for completion: a module's class, `parameter or buffer`; asked once."""
        if self._described is None:
            names = self.session.names()
            described = dict.fromkeys(names.tensors, "parameter or buffer")
            gathered = self.session.ask(ListModules(), timeout_s=2.0)
            for reply in gathered.replies.values():
                if isinstance(reply, Modules):
                    described |= {module.fqn: module.class_name for module in reply.modules}
            if gathered.missing:
                return described
            self._described = described
        return self._described

    def local_names(self) -> list[str]:
        """Local names of the selected frame, for completion; asked once per stop and frame."""
        session = self.session
        stops = [state.stop for rank, state in session.states.items() if rank in session.focus and state.stop]
        if not stops:
            return []
        where = (stops[0].hit, stops[0].rule, session.frame)
        if self._locals[0] != where:
            gathered = session.ask(ReadLocals(frame=session.frame), timeout_s=2.0)
            replies = [reply for reply in gathered.replies.values() if isinstance(reply, Locals)]
            self._locals = (where, sorted({name for reply in replies for name, _ in reply.locals}))
        return self._locals[1]

    def focus_title(self) -> str:
        """The focus as the user wrote it."""
        return self.session.focus_text or format_ranks(self.session.focus)


def _next_line(lines: deque[str]) -> str:
    if not lines:
        raise EOFError
    return lines.popleft()


def _expand(alias: str, rest: str) -> str:
    """`%1` ... and `%*` in an alias stand for the words after it; without any, they follow it."""
    if "%" not in alias:
        return f"{alias} {rest}".strip()
    words = rest.split()
    expanded = alias.replace("%*", rest)
    for number, word in enumerate(words, 1):
        expanded = expanded.replace(f"%{number}", word)
    return re.sub(r"%\d", "", expanded).strip()
