"""What events are called at the prompt."""

from __future__ import annotations

from typing import get_args

import msgspec
import pytest

from distdbg.schema.event import (
    AnyEvent,
    BackwardBegin,
    Called,
    Event,
    ForwardBegin,
    ForwardEnd,
    Iteration,
    LineReached,
    ModuleEvent,
    Paused,
    Watched,
)


@pytest.mark.parametrize(
    ("event", "name", "subject", "title"),
    [
        (ForwardBegin(fqn="layer.0"), "forward-begin", "layer.0", "forward layer.0"),
        (ForwardBegin(fqn="layer.0", call=2), "forward-begin", "layer.0", "forward layer.0 (call 2)"),
        (ForwardEnd(fqn="layer.0"), "forward-end", "layer.0", "end of layer.0"),
        (BackwardBegin(fqn="layer.0"), "backward-begin", "layer.0", "backward layer.0"),
        (
            ForwardEnd(fqn="a", call=3, is_recompute=True),
            "forward-end",
            "a",
            "end of a (call 3) recomputed in backward",
        ),
        (LineReached(file="/x/train.py", line=47), "line", "train.py:47", "line train.py:47"),
        (Iteration(number=12), "iteration", "", "iteration"),
        (Watched(expression="w", old="1", new="2"), "watch", "w", "watch w"),
        (Paused(), "pause", "", "pause"),
        (Called(), "breakpoint-call", "", "breakpoint-call"),
    ],
)
def test_names(event: Event, name: str, subject: str, title: str) -> None:
    assert (event.name, event.subject, event.title) == (name, subject, title)


def test_every_event_is_on_the_wire_under_its_own_name() -> None:
    kinds = get_args(AnyEvent)
    assert len({kind.__struct_config__.tag for kind in kinds}) == len(kinds)
    leaves = {kind for kind in [*Event.__subclasses__(), *ModuleEvent.__subclasses__()] if kind is not ModuleEvent}
    assert leaves == set(kinds)


def test_an_event_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        ForwardBegin(fqn="a").fqn = "b"  # type: ignore[misc]


def test_the_tag_travels_as_event() -> None:
    assert msgspec.to_builtins(Iteration(number=3)) == {"event": "iteration", "number": 3}
