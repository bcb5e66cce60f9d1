"""The user's breakpoints: one id for all ranks. What a rank has is an installed copy."""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec

from distdbg.schema.breakpoint import AnyBreakpoint
from distdbg.schema.ranks import Ranks


@dataclass
class Rule:
    """A breakpoint or watchpoint as the user set it; `matches` is rank -> what it landed on there."""

    breakpoint: AnyBreakpoint
    num_hits: int = 0
    ignore_count: int = 0
    commands: list[str] = field(default_factory=list)
    matches: dict[int, tuple[tuple[str, str], ...]] = field(default_factory=dict)
    is_compiled: bool = False
    note: str = ""
    armed_in: dict[int, int] = field(default_factory=dict)
    """Rank -> the iteration in which it first ran with this rule, to tell a module that is never called."""
    seen_by: set[int] = field(default_factory=set)

    @property
    def id(self) -> int:
        """The number the user knows it by."""
        return self.breakpoint.id

    @property
    def is_enabled(self) -> bool:
        """Whether it stops at all."""
        return self.breakpoint.is_enabled

    @property
    def is_temporary(self) -> bool:
        """Whether it goes away with its first stop."""
        return self.breakpoint.is_temporary

    @property
    def condition(self) -> str:
        """The Python text that must be true on some rank; empty for none."""
        return self.breakpoint.condition

    @property
    def focus(self) -> Ranks | None:
        """The ranks that may want to stop; None for all."""
        return None if self.breakpoint.focus is None else frozenset(self.breakpoint.focus)

    def change(self, **fields: object) -> AnyBreakpoint:
        """Replace fields of the breakpoint; the changed one, to be installed again."""
        self.breakpoint = msgspec.structs.replace(self.breakpoint, **fields)
        return self.breakpoint
