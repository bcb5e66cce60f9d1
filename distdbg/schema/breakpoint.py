"""The user's rules about where to stop: one id for all ranks; what is installed in a rank is a copy."""

from __future__ import annotations

import msgspec


class Breakpoint(msgspec.Struct, frozen=True, kw_only=True, tag_field="on"):
    """A rule. `condition` is evaluated in the stopped frame on each rank; `focus`: the ranks that may want to stop."""

    id: int
    condition: str = ""
    focus: tuple[int, ...] | None = None
    is_temporary: bool = False
    is_enabled: bool = True


class ModuleBreakpoint(Breakpoint, frozen=True, kw_only=True, tag="module"):
    """Stop at a module: `when` is forward, backward or end; `pattern` as the user typed it."""

    pattern: str
    when: str = "forward"

    @property
    def title(self) -> str:
        return f"{self.when} of {self.pattern}"


class LineBreakpoint(Breakpoint, frozen=True, kw_only=True, tag="line"):
    """Stop before a source line. `file` is a path or its tail; `line` counts from 1."""

    file: str
    line: int

    @property
    def title(self) -> str:
        return f"{self.file}:{self.line}"


class Watchpoint(Breakpoint, frozen=True, kw_only=True, tag="watch"):
    """Stop when a tensor's fingerprint or an expression's value changes; checked at each module and iteration event."""

    expression: str

    @property
    def title(self) -> str:
        return f"watch {self.expression}"


class StepRule(Breakpoint, frozen=True, kw_only=True, tag="step"):
    """Stop at the next module event: `how` is step (any), next (not inside the current module) or finish (its end).

    `depth` counts the modules that run at the stop; for finish, `fqn` and `depth` are those of the module
    to be finished. Each rank reads them from its own stack.
    """

    how: str
    fqn: str = ""
    depth: int = 0

    @property
    def title(self) -> str:
        return self.how


class BoundaryRule(Breakpoint, frozen=True, kw_only=True, tag="boundary"):
    """Stop at the next iteration boundary (`pause`, and where all ranks change their compile stance)."""

    @property
    def title(self) -> str:
        return "iteration boundary"


class PointRule(Breakpoint, frozen=True, kw_only=True, tag="point"):
    """Stop at one logical point that another rank has reached: the event's name and subject, at the same clock.

    `clock` counts collectives per group; it must be equal on the groups that both ranks are in.
    """

    event: str
    subject: str
    clock: dict[str, int]

    @property
    def title(self) -> str:
        return f"{self.event} {self.subject}"


AnyBreakpoint = ModuleBreakpoint | LineBreakpoint | Watchpoint | StepRule | BoundaryRule | PointRule
