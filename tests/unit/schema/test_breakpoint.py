"""Rules: what they are called, and that each is itself again after the wire."""

from __future__ import annotations

from typing import get_args

import msgspec
import pytest

from distdbg.schema.breakpoint import (
    AnyBreakpoint,
    BoundaryRule,
    Breakpoint,
    LineBreakpoint,
    ModuleBreakpoint,
    PointRule,
    StepRule,
    Watchpoint,
)

RULES: list[tuple[AnyBreakpoint, str]] = [
    (ModuleBreakpoint(id=1, pattern="layers.*"), "forward of layers.*"),
    (ModuleBreakpoint(id=1, pattern="a", when="end", condition="x", focus=(0, 2)), "end of a"),
    (LineBreakpoint(id=2, file="train.py", line=47), "train.py:47"),
    (Watchpoint(id=3, expression="w.grad", is_temporary=True), "watch w.grad"),
    (StepRule(id=-3, how="next", fqn="a", depth=2), "next"),
    (BoundaryRule(id=-1), "iteration boundary"),
    (PointRule(id=-4, event="forward-begin", subject="a", clock={"w": 3}), "forward-begin a"),
]


@pytest.mark.parametrize(("rule", "title"), RULES)
def test_title(rule: AnyBreakpoint, title: str) -> None:
    assert rule.title == title


@pytest.mark.parametrize("rule", [rule for rule, _ in RULES])
def test_round_trip(rule: AnyBreakpoint) -> None:
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(rule), type=AnyBreakpoint) == rule


def test_every_kind_is_tested() -> None:
    assert {type(rule) for rule, _ in RULES} == set(get_args(AnyBreakpoint)) == set(Breakpoint.__subclasses__())
