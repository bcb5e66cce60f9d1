"""Exactly the needed hooks are open."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from torch import nn

from distdbg.agent.instruments import Instruments, Key
from distdbg.hooks.scene import Emit, Scene
from distdbg.schema.event import AnyEvent


def emitter(_key: Key) -> Emit:
    def emit(_event: AnyEvent, _scene: Scene) -> None: ...

    return emit


@contextmanager
def recorded(log: list[str], name: str, *, stubborn: bool = False) -> Iterator[str]:
    log.append(f"open {name}")
    try:
        yield name
    finally:
        log.append(f"close {name}")
        if stubborn:
            raise RuntimeError("will not go")


def test_opened_gives_the_hooks_value_and_closes_once() -> None:
    log: list[str] = []
    instruments = Instruments()
    assert instruments.open(("line", "1"), None, recorded(log, "a")) == "a"
    assert len(instruments) == 1
    instruments.close(("line", "1"))
    instruments.close(("line", "1"))
    assert (log, len(instruments)) == (["open a", "close a"], 0)


def test_a_hook_that_cannot_open_is_not_there() -> None:
    @contextmanager
    def broken() -> Iterator[None]:
        raise RuntimeError("no such line")
        yield

    instruments = Instruments()
    with pytest.raises(RuntimeError, match="no such line"):
        instruments.open(("line", "1"), None, broken())
    assert len(instruments) == 0
    assert instruments.close_all() == []


def test_a_stubborn_hook_is_reported_and_keeps_no_other() -> None:
    log: list[str] = []
    instruments = Instruments()
    instruments.open(("line", "1"), None, recorded(log, "a", stubborn=True))
    instruments.open(("line", "2"), None, recorded(log, "b"))
    assert instruments.close_all() == ["line 1: will not go"]
    assert log[2:] == ["close a", "close b"]
    assert len(instruments) == 0


def test_sync_opens_what_is_needed_and_closes_what_is_not() -> None:
    a, b, instruments = nn.ReLU(), nn.ReLU(), Instruments()
    instruments.sync_modules({("forward-begin", "a"): a, ("forward-end", "a"): a, ("backward-begin", "b"): b}, emitter)
    assert (len(a._forward_pre_hooks), len(a._forward_hooks), len(b._forward_hooks)) == (1, 1, 1)
    instruments.sync_modules({("forward-end", "a"): a}, emitter)
    assert (len(a._forward_pre_hooks), len(a._forward_hooks), len(b._forward_hooks)) == (0, 1, 0)
    instruments.sync_modules({}, emitter)
    assert len(instruments) == 0 and not a._forward_hooks


def test_what_stays_keeps_its_place_in_line() -> None:
    a, instruments = nn.ReLU(), Instruments()
    instruments.sync_modules({("forward-begin", "a"): a}, emitter)
    before = dict(a._forward_pre_hooks)
    instruments.sync_modules({("forward-begin", "a"): a, ("forward-end", "a"): a}, emitter)
    assert dict(a._forward_pre_hooks) == before


def test_another_module_under_the_same_name_is_hooked_anew() -> None:
    old, new, instruments = nn.ReLU(), nn.ReLU(), Instruments()
    instruments.sync_modules({("forward-begin", "a"): old}, emitter)
    instruments.sync_modules({("forward-begin", "a"): new}, emitter)
    assert (len(old._forward_pre_hooks), len(new._forward_pre_hooks)) == (0, 1)


def test_sync_leaves_other_kinds_of_hooks_alone() -> None:
    log: list[str] = []
    instruments = Instruments()
    instruments.open(("iteration", ""), None, recorded(log, "i"))
    instruments.sync_modules({}, emitter)
    assert log == ["open i"]
