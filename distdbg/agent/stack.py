"""Python stacks as the user knows them: his own frames, the modules being run, and one phrase for what goes on."""

from __future__ import annotations

import linecache
import os
import sys
import threading
from types import FrameType
from typing import Any

import torch
from torch import nn

from distdbg.agent.title import COLLECTIVES
from distdbg.schema.stop import Frame

_TORCH = os.path.dirname(torch.__file__) + os.sep
_OURS = os.path.dirname(os.path.dirname(__file__)) + os.sep
_COMMUNICATION = "distributed_c10d.py", "_functional_collectives.py"


def frames_from(innermost: FrameType | None) -> list[FrameType]:
    """The user's frames, innermost first: those of torch and of ours left out, unless nothing else is there."""
    stack: list[FrameType] = []
    while innermost is not None:
        stack.append(innermost)
        innermost = innermost.f_back
    stack = [frame for frame in stack if not frame.f_code.co_filename.startswith(_OURS)]
    users = [frame for frame in stack if not is_library(frame.f_code.co_filename)]
    return users or stack


def is_library(filename: str) -> bool:
    """Whether a file is torch's or the interpreter's own rather than the user's."""
    return filename.startswith((_TORCH, "<frozen", "<string>")) or f"{os.sep}threading.py" in filename


def describe_frame(frame: FrameType, context: int = 2) -> Frame:
    """The frame with `context` source lines on each side of the current one."""
    code = frame.f_code
    line = frame.f_lineno or code.co_firstlineno
    lines = range(max(1, line - context), line + context + 1)
    read = ((number, linecache.getline(code.co_filename, number, frame.f_globals)) for number in lines)
    source = tuple((number, text.rstrip("\n")) for number, text in read if text)
    # Python 3.10 has no co_qualname. Its `f_locals` would tell the class, and keep this iteration's tensors alive.
    name: str = getattr(code, "co_qualname", code.co_name)
    return Frame(file=code.co_filename, line=line, function=name.replace("<locals>.", ""), source=source)


def module_stack(innermost: FrameType | None) -> list[nn.Module]:
    """The modules whose forward is running in this stack, outermost first."""
    modules: list[nn.Module] = []
    frame = innermost
    while frame is not None:
        if frame.f_code is nn.Module._call_impl.__code__:
            modules.append(frame.f_locals["self"])
        frame = frame.f_back
    return modules[::-1]


def training_thread() -> int:
    """Ident of the thread that trains: the main one, unless a C++ autograd thread is parked (the caller knows that)."""
    return threading.main_thread().ident or 0


def sample(ident: int) -> FrameType | None:
    """The innermost frame of a running thread, as of now."""
    return sys._current_frames().get(ident)


def activity(ident: int) -> str:
    """What a running thread is in, as one phrase: `all_reduce from Block.forward, train.py:47`."""
    innermost = sample(ident)
    frames = frames_from(innermost)
    if not frames:
        return ""
    inside = ""
    frame: Any = innermost
    while frame is not None and frame is not frames[0]:
        filename = frame.f_code.co_filename
        if filename.endswith(_COMMUNICATION) and frame.f_code.co_name in COLLECTIVES:
            inside = frame.f_code.co_name  # the outermost of them is what the user called
        elif not inside and filename.endswith("autograd/graph.py"):
            inside = "backward"
        frame = frame.f_back
    at = describe_frame(frames[0], context=0)
    where = f"{at.function}, {os.path.basename(at.file)}:{at.line}"
    return f"{inside} from {where}" if inside else where
