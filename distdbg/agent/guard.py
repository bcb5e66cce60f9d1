"""Keeps what the user evaluates from issuing a collective that the other members of the group do not issue."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch.distributed as dist

from distdbg.agent.title import collective_title, group_title
from distdbg.errors import WouldDeadlock
from distdbg.hooks.collective import before_collectives
from distdbg.schema.ranks import format_ranks

AskPermission = Callable[[str, str, tuple[int, ...]], str]
"""(operator, group, its ranks) -> empty when all of them are about to issue it, else why not. Blocks."""


def ask_nobody(_operator: str, _group: str, _ranks: tuple[int, ...]) -> str:
    """For conditions and watches: each rank evaluates them at its own time."""
    return "conditions and watches must not communicate"


class Guard:
    """Looks at the collectives of threads that evaluate, and only at theirs. Open only while something may evaluate."""

    def __init__(self) -> None:
        self._hook = ExitStack()
        self._lock = threading.Lock()
        self._is_open = False
        self._evaluating: dict[int, tuple[frozenset[int], AskPermission]] = {}

    def is_evaluating(self) -> bool:
        """Whether the calling thread is in an evaluation: its events are ours, not the program's."""
        return threading.get_ident() in self._evaluating

    @contextmanager
    def evaluating(self, ranks: tuple[int, ...], ask: AskPermission) -> Iterator[None]:
        """Guard the calling thread: a collective needs all its members among `ranks`, and their word through `ask`."""
        with self._lock:
            if not self._is_open:
                self._hook.enter_context(before_collectives(self._look))
                self._is_open = True
        ident = threading.get_ident()
        outer = self._evaluating.get(ident)
        self._evaluating[ident] = (frozenset(ranks), ask)
        try:
            yield
        finally:
            if outer is None:
                del self._evaluating[ident]
            else:
                self._evaluating[ident] = outer

    def close(self) -> None:
        """Take the hook away, unless some thread is evaluating."""
        with self._lock:
            if self._is_open and not self._evaluating:
                self._hook.close()
                self._is_open = False

    def _look(self, operator: str, group: Any) -> None:
        found = self._evaluating.get(threading.get_ident())
        if found is None or group is None:
            return
        ranks, ask = found
        members = tuple(sorted(dist.get_process_group_ranks(group)))
        if len(members) == 1:
            return
        name, title = collective_title(operator), group_title(group)
        what = f"it would {name} on {title} (ranks {format_ranks(members)})"
        if not ranks.issuperset(members):
            alone = [rank for rank in members if rank in ranks]
            who = f"rank {alone[0]} evaluates" if len(alone) == 1 else f"ranks {format_ranks(alone)} evaluate"
            raise WouldDeadlock(f"{what} while only {who}, and hang the job.")
        refusal = ask(name, title, members)
        if refusal:
            raise WouldDeadlock(f"{what}: {refusal}.")
