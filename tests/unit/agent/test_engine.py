"""Which rules an event meets."""

from __future__ import annotations

import pytest

from distdbg.agent.engine import Copy, Engine, Surroundings
from distdbg.schema.breakpoint import (
    AnyBreakpoint,
    BoundaryRule,
    LineBreakpoint,
    ModuleBreakpoint,
    PointRule,
    StepRule,
    Watchpoint,
)
from distdbg.schema.event import (
    AnyEvent,
    BackwardBegin,
    Called,
    ForwardBegin,
    ForwardEnd,
    Iteration,
    LineReached,
    Paused,
    Watched,
)

EVENTS: dict[str, AnyEvent] = {
    "forward a": ForwardBegin(fqn="a"),
    "forward b": ForwardBegin(fqn="b"),
    "end a": ForwardEnd(fqn="a"),
    "end b": ForwardEnd(fqn="b"),
    "backward a": BackwardBegin(fqn="a"),
    "line 7": LineReached(file="/x/train.py", line=7),
    "line 8": LineReached(file="/x/train.py", line=8),
    "iteration": Iteration(number=3),
    "watch": Watched(expression="a", old="1", new="2"),
    "pause": Paused(),
    "called": Called(),
}


def never() -> int:
    raise AssertionError("costs something and was not needed")


def around(depth: int | None = None, **clock: int) -> Surroundings:
    return Surroundings(
        depth=never if depth is None else lambda: depth,
        clock=lambda: clock if clock else never() and {},  # type: ignore[return-value]
    )


def met_by(copy: Copy, where: Surroundings) -> set[str]:
    engine = Engine()
    engine.add(copy)
    return {name for name, event in EVENTS.items() if engine.handle(event, where)[1]}


MODULE_EVENTS = {"forward a", "forward b", "end a", "end b", "backward a"}


@pytest.mark.parametrize(
    ("rule", "subjects", "where", "expected"),
    [
        (ModuleBreakpoint(id=1, pattern="?"), {"a"}, around(), {"forward a"}),
        (ModuleBreakpoint(id=1, pattern="?"), {"a", "b"}, around(), {"forward a", "forward b"}),
        (ModuleBreakpoint(id=1, pattern="?", when="end"), {"a"}, around(), {"end a"}),
        (ModuleBreakpoint(id=1, pattern="?", when="backward"), {"a", "b"}, around(), {"backward a"}),
        (ModuleBreakpoint(id=1, pattern="a"), set(), around(), set()),
        (LineBreakpoint(id=1, file="train.py", line=7), {"/x/train.py:7"}, around(), {"line 7"}),
        (Watchpoint(id=1, expression="w"), set(), around(), MODULE_EVENTS | {"iteration"}),
        (BoundaryRule(id=-1), set(), around(), {"iteration"}),
        (StepRule(id=-3, how="step"), set(), around(), {"forward a", "forward b"}),
        (StepRule(id=-3, how="next", fqn="a", depth=2), set(), around(2), {"forward a", "forward b"}),
        (StepRule(id=-3, how="next", fqn="a", depth=2), set(), around(3), set()),
        (StepRule(id=-3, how="finish", fqn="b", depth=2), set(), around(3), {"end b"}),
        (StepRule(id=-3, how="finish", fqn="b", depth=2), set(), around(2), {"end b", "forward a", "forward b"}),
        (StepRule(id=-3, how="finish"), set(), around(), {"iteration"}),
        (PointRule(id=-4, event="end", subject="a", clock={"w": 1}), set(), around(w=1), set()),
        (PointRule(id=-4, event="forward-end", subject="a", clock={"w": 1}), set(), around(w=1), {"end a"}),
        (PointRule(id=-4, event="forward-end", subject="a", clock={"w": 1}), set(), around(w=2), set()),
        (PointRule(id=-4, event="forward-end", subject="a", clock={"w": 1, "tp0": 9}), set(), around(w=1), {"end a"}),
        (PointRule(id=-4, event="iteration", subject="", clock={"w": 1}), set(), around(w=1), {"iteration"}),
    ],
)
def test_each_kind_meets_its_events_and_no_other(
    rule: AnyBreakpoint, subjects: set[str], where: Surroundings, expected: set[str]
) -> None:
    assert met_by(Copy(rule, frozenset(subjects)), where) == expected


def test_a_disabled_rule_meets_nothing() -> None:
    assert met_by(Copy(ModuleBreakpoint(id=1, pattern="a", is_enabled=False), frozenset({"a"})), around()) == set()


def handle(engine: Engine, event: AnyEvent) -> tuple[AnyEvent, list[int]]:
    event, rules = engine.handle(event, around())
    return event, [rule.id for rule in rules]


def test_the_users_own_rules_come_first_in_their_order() -> None:
    engine = Engine()
    for rule_id in (-3, 5, -1, 2):
        rule = StepRule(id=rule_id, how="step") if rule_id < 0 else ModuleBreakpoint(id=rule_id, pattern="a")
        engine.add(Copy(rule, frozenset({"a"})))
    assert handle(engine, EVENTS["forward a"])[1] == [2, 5, -1, -3]


def test_a_copy_of_the_same_id_is_replaced() -> None:
    engine = Engine()
    engine.add(Copy(ModuleBreakpoint(id=1, pattern="a"), frozenset({"a"})))
    engine.add(Copy(ModuleBreakpoint(id=1, pattern="b"), frozenset({"b"})))
    assert (handle(engine, EVENTS["forward a"])[1], handle(engine, EVENTS["forward b"])[1]) == ([], [1])


def test_removing_twice_is_no_error() -> None:
    engine = Engine()
    engine.add(Copy(ModuleBreakpoint(id=1, pattern="a"), frozenset({"a"})))
    engine.remove(1)
    engine.remove(1)
    assert handle(engine, EVENTS["forward a"])[1] == []


def test_whoever_walks_through_the_rules_sees_no_half_change() -> None:
    engine = Engine()
    engine.add(Copy(BoundaryRule(id=-1)))
    before = engine.copies
    engine.add(Copy(BoundaryRule(id=-2)))
    engine.remove(-1)
    assert set(before) == {-1}
    assert set(engine.copies) == {-2}


def test_calls_are_counted_in_each_iteration_by_event_module_and_recomputation() -> None:
    engine = Engine()
    again = ForwardBegin(fqn="a", is_recompute=True)
    events = ["forward a", "forward a", "end a", "forward b"]
    counts = [handle(engine, EVENTS[name])[0].call for name in events]  # type: ignore[union-attr]
    assert counts == [1, 2, 1, 1]
    assert handle(engine, again)[0].call == 1  # type: ignore[union-attr]
    handle(engine, Iteration(number=1))
    assert handle(engine, EVENTS["forward a"])[0].call == 1  # type: ignore[union-attr]


def test_the_iteration_is_the_events_number() -> None:
    engine = Engine()
    handle(engine, Iteration(number=41))
    assert engine.iteration == 41
