"""What a hook hands over beside its event: live objects, held only while the event is handled."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import FrameType
from typing import Any, TypeAlias

from distdbg.schema.event import AnyEvent


@dataclass
class Scene:
    """The module, tensors and frame around an event. Never stored: it would keep the job's tensors alive."""

    module: Any = None
    args: tuple[Any, ...] | None = None
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    output: Any = None
    grad_output: Any = None
    frame: FrameType | None = None


Emit: TypeAlias = Callable[[AnyEvent, Scene], None]
"""Called on the training thread; returns when training may go on. Never raises."""
EMPTY = Scene()
