"""Find live objects by type: in the frames of all threads, and, when that is not enough, on the heap."""

from __future__ import annotations

import gc
import inspect
import sys
from collections.abc import Iterator
from opcode import opmap
from types import FrameType

_SNAPSHOT_READERS = frozenset({"locals", "vars", "dir", "eval", "exec"})
_MAX_ITEMS = 64

_OWN_REFERENCES = 3
"""To a frame's dict of locals, while we look at it: the frame's, our variable's and the call's that counts them."""


_RESUME = opmap.get("RESUME", -1)
"""What every function begins with since Python 3.11."""


class Scan:
    """Objects whose class derives from one of `classes`; by `type(o)`, as `isinstance` runs code of proxies.

    The results are strong references: let go of them when the answer is made.
    """

    def __init__(self, *classes: type) -> None:
        self._classes = classes
        self._verdicts: dict[type, bool] = {}

    def in_frames(self) -> list[tuple[str, object]]:
        """(name, object) for locals, attributes of `self` and items of local containers, innermost frame last."""
        found: dict[int, tuple[str, object]] = {}
        for frame, is_in_our_hook in _list_frames():
            for name, value in read_locals(frame, is_in_our_hook=is_in_our_hook):
                for label, item in self._expand(name, value):
                    found.setdefault(id(item), (label, item))
        return list(found.values())

    def on_heap(self) -> list[object]:
        """Every such object that the garbage collector knows: about 0.1 s for a million objects."""
        return [item for item in gc.get_objects() if self._is_wanted(item)]

    def _expand(self, name: str, value: object) -> Iterator[tuple[str, object]]:
        if self._is_wanted(value):
            yield name, value
        elif name == "self":
            for key, item in list(_attributes(value).items()):
                yield from self._expand_items(str(key), item)
        else:
            yield from self._expand_items(name, value)

    def _expand_items(self, name: str, value: object) -> Iterator[tuple[str, object]]:
        if self._is_wanted(value):
            yield name, value
        elif type(value) in (list, tuple):
            for item in list(value)[:_MAX_ITEMS]:  # type: ignore[call-overload]
                if self._is_wanted(item):
                    yield name, item
        elif type(value) is dict:
            for key, item in list(value.items())[:_MAX_ITEMS]:
                if self._is_wanted(item):
                    yield str(key), item

    def _is_wanted(self, item: object) -> bool:
        cls = type(item)
        verdict = self._verdicts.get(cls)
        if verdict is None:
            verdict = self._verdicts[cls] = any(base in self._classes for base in cls.__mro__)
        return verdict


def _attributes(value: object) -> dict[str, object]:
    try:
        found = object.__getattribute__(value, "__dict__")
    except AttributeError:
        return {}
    return found if type(found) is dict else {}


def _list_frames() -> list[tuple[FrameType, bool]]:
    """Frames of all threads, outermost first, without distdbg's own; and whether each calls one of those."""
    frames: list[tuple[FrameType, bool]] = []
    for innermost in sys._current_frames().values():
        stack: list[tuple[FrameType, bool]] = []
        frame: FrameType | None = innermost
        is_above_ours = False
        while frame is not None:
            is_ours = str(frame.f_globals.get("__name__", "")).split(".", 1)[0] == "distdbg"
            if not is_ours:
                stack.append((frame, is_above_ours))
            frame, is_above_ours = frame.f_back, is_ours
        frames += reversed(stack)
    del innermost  # it may be this very frame: a cycle that keeps our callers' locals alive until the next collection
    return frames


def read_locals(frame: FrameType, *, is_in_our_hook: bool = False) -> list[tuple[str, object]]:
    """Locals of a frame that may be running, leaving nothing behind in it.

    Before Python 3.13, `f_locals` of a function fills a dict that the frame keeps: it would hold this iteration's
    tensors until the function returns, so it is emptied again, unless somebody else holds it. `locals()` in the
    function returns that very dict, which reading would change; a function that may have kept it, or that is being
    traced, is left alone (the heap scan finds what is in there).

    While a trace function runs, that dict is what the frame's variables are set to when it returns: emptying it would
    unset them all. A frame may be in one when it has just begun (its call is being traced), or when it stands in a
    hook of ours (whose tracing may have been switched off meanwhile).
    """
    if not frame.f_code.co_flags & inspect.CO_OPTIMIZED or sys.version_info >= (3, 13):
        return list(frame.f_locals.items())
    if frame.f_trace is not None or not _SNAPSHOT_READERS.isdisjoint(frame.f_code.co_names):
        return []
    snapshot = frame.f_locals
    found = list(snapshot.items())
    if not is_in_our_hook and not _has_just_begun(frame) and sys.getrefcount(snapshot) <= _OWN_REFERENCES:
        snapshot.clear()
    return found


def _has_just_begun(frame: FrameType) -> bool:
    """Whether a frame has executed nothing yet: where a trace function is told of its call."""
    return frame.f_lasti < 0 or frame.f_code.co_code[frame.f_lasti] == _RESUME
