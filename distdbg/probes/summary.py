"""Any Python value in a few words, without running code of the user's."""

from __future__ import annotations

import enum
import inspect
import pathlib
import reprlib
import types
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from distdbg.probes.tensor import as_dtensor, axes_of
from distdbg.probes.wrapper import class_name, unwrap

_LENGTH = 120
_ITEMS = 4
_KINDS = {"float": "f", "bfloat": "bf", "int": "i", "uint": "u", "complex": "c"}
_PLAIN = (int, float, complex, bool, str, bytes, bytearray, range, slice, type(None), type(...))
_TORCH = (torch.dtype, torch.device, torch.Size, torch.layout, torch.memory_format)


def shorten_dtype(dtype: torch.dtype) -> str:
    """`f32`, `bf16`, `i64`, `bool`, `f8_e4m3fn`."""
    name = str(dtype).removeprefix("torch.")
    head = name.rstrip("0123456789") if "_" not in name else name.split("_", 1)[0].rstrip("0123456789")
    return _KINDS[head] + name[len(head) :] if head in _KINDS else name


def describe_placements(axes: Sequence[str], placements: Sequence[str]) -> str:
    """`S(0) on tp`; axes that replicate are named only where all do: `R on dp, tp`."""
    cut = [f"{placement} on {axis}" for axis, placement in zip(axes, placements, strict=False) if placement != "R"]
    return ", ".join(cut) or f"R on {', '.join(axes)}"


def summarize(value: object, limit: int = _LENGTH) -> str:
    """At most `limit` characters that say what the value is: `f32[4, 16, 36] S(0) on tp`, `list of 2: i64[4], None`.

    Only reprs of plain Python and torch metadata are used; an object of another class is named by its class, as its
    `__repr__` could do anything, even communicate.
    """
    try:
        text = _summarize(value, 0)
    except Exception as error:  # a value in the middle of its own construction or of a swap
        text = f"<{type(value).__name__}: {type(error).__name__}>"
    return text if len(text) <= limit else text[: limit - 1] + "…"


def render(value: object, limit: int = 10_000) -> str:
    """`repr(value)`, cut to `limit` characters: for what the user asked to see, under the guard of an evaluation.

    Raises whatever that repr raises, the guard's WouldDeadlock among it.
    """
    text = repr(value)
    return text if len(text) <= limit else f"{text[:limit]}… ({len(text)} characters)"


def parameter_names(module: nn.Module) -> list[str]:
    """Names of the positional parameters of the module's forward, without self; `args[0]`-like ones are not listed."""
    try:
        signature = inspect.signature(unwrap(module).module.forward)
    except (TypeError, ValueError):
        return []
    named = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return [parameter.name for parameter in signature.parameters.values() if parameter.kind in named]


def describe_inputs(
    args: Sequence[object] | None, kwargs: Mapping[str, object], module: nn.Module | None, axes: Sequence[str] = ()
) -> tuple[str, ...]:
    """One line per input, `x   f32[4, 16, 36]   S(0) on tp`, columns aligned; names are those of the module's forward.

    With mesh `axes`, a plain tensor is said to be `plain on dp, tp`.
    """
    names = parameter_names(module) if module is not None else []
    named = [(names[n] if n < len(names) else f"input[{n}]", value) for n, value in enumerate(args or ())]
    named += list(kwargs.items())
    rows = [(name, *_split(value, axes)) for name, value in named]
    wide = [max((len(row[column]) for row in rows), default=0) for column in range(2)]
    return tuple(f"{name:<{wide[0]}}   {what:<{wide[1]}}   {where}".rstrip() for name, what, where in rows)


def _split(value: object, axes: Sequence[str]) -> tuple[str, str]:
    if isinstance(value, torch.Tensor):
        try:
            where = _where(value)
            return _shape(value), where or (f"plain on {', '.join(axes)}" if axes else "")
        except Exception:  # as in summarize
            return summarize(value), ""
    return summarize(value), ""


def _summarize(value: object, depth: int) -> str:
    cls = type(value)
    if isinstance(value, torch.Tensor):
        where = _where(value)
        place = "" if value.device.type == "cpu" else f" {value.device}"
        return _shape(value) + place + (f" {where}" if where else "")
    if cls in _PLAIN or cls in _TORCH or isinstance(value, pathlib.PurePath):
        return _reprlib.repr(value)
    if isinstance(value, enum.Enum):
        return f"{cls.__name__}.{value._name_}"
    if cls in (list, tuple, set, frozenset) or issubclass(cls, tuple):
        return _summarize_items(value, depth)
    if issubclass(cls, dict):
        return _summarize_mapping(value, depth)
    if isinstance(value, nn.Module):
        inner = unwrap(value)
        return f"{class_name(inner.module)} module" + (f" ({', '.join(inner.titles)})" if inner.titles else "")
    if isinstance(value, (types.FunctionType, types.BuiltinFunctionType, types.MethodType)):
        return f"function {value.__qualname__}"
    if isinstance(value, type):
        return f"class {value.__qualname__}"
    if isinstance(value, types.ModuleType):
        return f"module {value.__name__}"
    return f"{cls.__qualname__} object"


def _summarize_items(value: Any, depth: int) -> str:
    items, total = list(value)[:_ITEMS], len(value)
    head = f"{type(value).__name__} of {total}"
    if depth >= 2 or not items:
        return head
    return f"{head}: " + ", ".join(_summarize(item, depth + 1) for item in items) + (", …" if total > _ITEMS else "")


def _summarize_mapping(value: Any, depth: int) -> str:
    items, total = list(dict.items(value))[:_ITEMS], dict.__len__(value)
    head = f"{type(value).__name__} of {total}"
    if depth >= 2 or not items:
        return head
    shown = ", ".join(f"{_summarize(key, 2)}: {_summarize(item, depth + 1)}" for key, item in items)
    return f"{head}: {shown}" + (", …" if total > _ITEMS else "")


def _shape(value: torch.Tensor) -> str:
    return f"{shorten_dtype(value.dtype)}[{', '.join(str(int(size)) for size in value.shape)}]"


def _where(value: torch.Tensor) -> str:
    dtensor = as_dtensor(value)
    if dtensor is None:
        return ""
    return describe_placements(axes_of(dtensor.device_mesh), [str(p) for p in dtensor.placements])


_reprlib = reprlib.Repr()
_reprlib.maxstring = _reprlib.maxother = _LENGTH - 10
_reprlib.maxlong = 40
