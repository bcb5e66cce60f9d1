"""What a probe may look at: the model, and at a stop the stopped module's tensors and frame."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from distdbg.probes.model import ModelIndex


@dataclass
class Context:
    """Filled by the agent for one request and dropped with the answer: it holds strong references.

    `live` marks a read of a running rank from another thread than the training thread. `inputs` are (args, kwargs) of
    the stopped module, `output` and `grad_output` what has arrived there, None where the stop has none. `evaluate`
    evaluates text in the requested frame and raises EvaluationError or WouldDeadlock; None where there is no frame.
    """

    model: ModelIndex
    is_stopped: bool = False
    live: bool = False
    inputs: tuple[tuple[Any, ...], Mapping[str, Any]] | None = None
    output: object | None = None
    grad_output: object | None = None
    module: nn.Module | None = None
    frame_locals: Mapping[str, Any] | None = None
    frame_globals: Mapping[str, Any] = field(default_factory=dict)
    evaluate: Callable[[str], object] | None = None
