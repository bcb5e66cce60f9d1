"""Stacks as the user knows them."""

from __future__ import annotations

import sys
import threading
from types import FrameType
from typing import Any

import torch
from torch import nn

from distdbg.agent.stack import activity, describe_frame, frames_from, is_library, module_stack, sample


class Catch(nn.Module):
    """Keeps what it is told to read while it runs."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []
        self.modules_seen: list[nn.Module] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        here = sys._getframe()
        self.names = [frame.f_code.co_name for frame in frames_from(here)]
        self.modules_seen = module_stack(here)
        return x


def test_torchs_own_frames_are_left_out() -> None:
    catch = Catch()
    nn.Sequential(nn.Sequential(catch))(torch.ones(1))
    assert catch.names[:2] == ["forward", "test_torchs_own_frames_are_left_out"]


def test_the_modules_that_run_are_listed_from_the_outermost() -> None:
    catch = Catch()
    inner = nn.Sequential(catch)
    outer = nn.Sequential(inner)
    outer(torch.ones(1))
    assert [id(one) for one in catch.modules_seen] == [id(outer), id(inner), id(catch)]
    assert module_stack(sys._getframe()) == []


def compiled(filename: str) -> Any:
    namespace: dict[str, Any] = {"get": lambda: sys._getframe(1)}
    exec(compile("def run():\n    return get()\n", filename, "exec"), namespace)
    return namespace["run"]


def test_a_stack_of_library_frames_only_is_shown_as_it_is() -> None:
    class Alone:
        f_back = None
        f_code = nn.Module._call_impl.__code__

    frame: Any = Alone()
    assert frames_from(frame) == [frame]
    assert frames_from(None) == []


def test_what_is_a_library() -> None:
    assert is_library(torch.__file__) and is_library("<frozen runpy>") and is_library(threading.__file__)
    assert not is_library(__file__) and not is_library("/home/me/torch/train.py")


def test_a_frame_with_its_lines() -> None:
    here = describe_frame(sys._getframe(), context=1)  # @here
    (number,) = [n for n, text in here.source if text.endswith("# @here")]
    assert (here.file, here.line) == (__file__, number)
    assert [n for n, _ in here.source] == [number - 1, number, number + 1]
    assert here.function == "test_a_frame_with_its_lines"


def test_a_frame_of_a_method_has_its_class() -> None:
    class Inner:
        def method(self) -> FrameType:
            return sys._getframe()

    if sys.version_info >= (3, 11):
        assert describe_frame(Inner().method()).function == "test_a_frame_of_a_method_has_its_class.Inner.method"


def test_a_frame_without_source_has_no_lines() -> None:
    frame = compiled("/nowhere/train.py")()
    assert describe_frame(frame).source == ()


def test_a_running_thread_is_in_something() -> None:
    started, go_on = threading.Event(), threading.Event()

    def train() -> None:
        started.set()
        go_on.wait(10)

    thread = threading.Thread(target=train)
    thread.start()
    started.wait(10)
    assert thread.ident is not None
    try:
        assert "train, test_stack.py:" in activity(thread.ident)
        assert sample(thread.ident) is not None
    finally:
        go_on.set()
        thread.join()
    assert activity(thread.ident) == ""
