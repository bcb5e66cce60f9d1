"""What break, tbreak, watch and their kin share: rules and what they landed on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from distdbg.client.gather import Gathered
from distdbg.client.merge import merge
from distdbg.console.announce import short_path
from distdbg.console.answers import report_answers
from distdbg.console.report import Report
from distdbg.errors import UsageError
from distdbg.reporters.view import Span, Text, ranks_span
from distdbg.schema.breakpoint import LineBreakpoint, ModuleBreakpoint, Watchpoint
from distdbg.schema.message import Installed
from distdbg.schema.ranks import Ranks

if TYPE_CHECKING:
    from distdbg.client.rule import Rule
    from distdbg.console.console import Console

MAX_MATCHES = 4


def read_location(
    where: str, when: str, condition: str, *, is_temporary: bool, focus: Ranks | None
) -> ModuleBreakpoint | LineBreakpoint:
    """MODULE or FILE:LINE as a breakpoint."""
    ranks = tuple(sorted(focus)) if focus is not None else None
    file, colon, line = where.rpartition(":")
    if colon:
        if not line.isdigit():
            raise UsageError(f"{line!r} is no line number. Expected FILE:LINE, such as train.py:47.")
        if when:
            raise UsageError(f"{when!r} is for modules: a line has no {when}.")
        return LineBreakpoint(
            id=0, file=file, line=int(line), condition=condition, is_temporary=is_temporary, focus=ranks
        )
    return ModuleBreakpoint(
        id=0, pattern=where, when=when or "forward", condition=condition, is_temporary=is_temporary, focus=ranks
    )


def chosen_focus(console: Console) -> Ranks | None:
    """The ranks that a new rule is for: those of `@RANKS` or the focus; None for all."""
    ranks = console.prefix if console.prefix is not None else console.session.focus
    return None if ranks >= console.session.context().ranks else ranks


def require_rule(console: Console, id: int) -> Rule:
    """The rule of that number; raises UsageError that lists those there are."""
    rules = console.session.rules
    if id not in rules:
        there = ", ".join(map(str, sorted(rules))) or "none"
        raise UsageError(f"No breakpoint {id}: there is {there}.")
    return rules[id]


def kind_of(rule: Rule) -> str:
    """`Breakpoint`, `Temporary breakpoint` or `Watchpoint`."""
    if isinstance(rule.breakpoint, Watchpoint):
        return "Watchpoint"
    return "Temporary breakpoint" if rule.is_temporary else "Breakpoint"


def report_rule(rule: Rule, gathered: Gathered) -> Report:
    """`Breakpoint 1: forward of layer.0.attention (Attention), ranks 0-3`."""
    view = Text()
    clusters = merge((rank, found) for rank, found in rule.matches.items() if found)
    if not clusters:
        view.add(f"{kind_of(rule)} {rule.id}: {_landing(rule, ())}", *_suffix(rule, gathered.ranks))
    for cluster in clusters:
        view.add(f"{kind_of(rule)} {rule.id}: {_landing(rule, cluster.answer)}", *_suffix(rule, cluster.ranks))
        if len(cluster.answer) > 1:
            for name, what in cluster.answer[:MAX_MATCHES]:
                view.add(f"  {name} ({what})")
            if len(cluster.answer) > MAX_MATCHES:
                view.add(f"  … {len(cluster.answer) - MAX_MATCHES} more")
    notes = merge((rank, reply.note) for rank, reply in gathered.replies.items() if isinstance(reply, Installed))
    for note in notes:
        if note.answer:
            view.add("  ", Span(note.answer, "outlier"))
    return report_answers(view, gathered, [(gathered.ranks - set(gathered.missing), rule_data(rule))])


def _landing(rule: Rule, matches: tuple[tuple[str, str], ...]) -> str:
    point = rule.breakpoint
    if isinstance(point, ModuleBreakpoint):
        if len(matches) == 1:
            return f"{point.when} of {matches[0][0]} ({matches[0][1]})"
        return f"{point.when} of {len(matches)} modules matching {point.pattern}"
    if isinstance(point, LineBreakpoint) and len(matches) == 1:
        file, _, line = matches[0][0].rpartition(":")
        return f"{short_path(file)}:{line}" + (f" in {matches[0][1]}" if matches[0][1] else "")
    if isinstance(point, Watchpoint):
        return point.expression
    return point.title


def _suffix(rule: Rule, ranks: Ranks) -> tuple[str | Span, ...]:
    condition = f", if {rule.condition}" if rule.condition else ""
    noun = ", rank " if len(ranks) == 1 else ", ranks "
    shown = ranks & rule.focus if rule.focus is not None else ranks
    return (noun, ranks_span(shown), condition) if shown else (condition,)


def rule_data(rule: Rule) -> dict[str, object]:
    """A rule for `--json`."""
    matches = dict.fromkeys(name for found in rule.matches.values() for name, _ in found)
    return {
        "id": rule.id,
        "kind": kind_of(rule).lower(),
        "title": rule.breakpoint.title,
        "matches": list(matches),
        "condition": rule.condition,
        "ranks": sorted(rule.focus) if rule.focus is not None else None,
        "is_enabled": rule.is_enabled,
        "is_temporary": rule.is_temporary,
        "num_hits": rule.num_hits,
        "ignore_count": rule.ignore_count,
        "commands": list(rule.commands),
    }
