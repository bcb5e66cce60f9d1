"""From what the user typed to tensors."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import torch

from distdbg.errors import AmbiguousName, EvaluationError, NotStoppedError, UnknownName, UsageError
from distdbg.probes.context import Context
from distdbg.probes.model import Entry
from distdbg.probes.parameter import Held, gradient_of, list_tensors, optimizer_state_of, tensors_below
from distdbg.probes.pattern import match_names, unknown_name
from distdbg.probes.summary import parameter_names

_AT_STOP = re.compile(r"(?P<name>input|output|grad_output)(?P<path>(\[[^\[\]]+\]|\.[A-Za-z_]\w*)*)")
_STEP = re.compile(r"\[(?P<key>[^\[\]]+)\]|\.(?P<attribute>[A-Za-z_]\w*)")
_NAME = re.compile(r"[\w.*?/]+")
_MAX_DEPTH = 4

Listed = list[tuple[Entry, list[Held]]]


def resolve(text: str, context: Context) -> list[Held]:
    """Tensors that `text` means, at least one.

    In this order: input, output or grad_output of the stopped module (`input[0]`, `output.logits`); a parameter or
    buffer by its exact name; a local of the stopped frame; then by suffix or glob a parameter or buffer, `NAME.grad`,
    optimizer state (`NAME.exp_avg`, `NAME.optim` for all of it), a module (its parameters and buffers); at last any
    expression of the stopped frame. Raises UnknownName with the nearest names, NotStoppedError, or what the
    evaluation of the expression raised.
    """
    text = text.strip()
    if match := _AT_STOP.fullmatch(text):
        return _resolve_at_stop(text, match["name"], match["path"], context)
    listed = list_tensors(context.model)
    held = [tensor for _, tensors in listed for tensor in tensors]
    if exact := [tensor for tensor in held if tensor.fqn == text.replace("/", ".")]:
        return exact
    local = (context.frame_locals or {}).get(text)
    if found := list(_flatten(text, local, "value")):
        return found
    if (_NAME.fullmatch(text) or not text) and (found := _resolve_name(text, listed, context)):
        return found
    return _resolve_expression(text, held, context)


def resolve_one(text: str, context: Context) -> Held:
    """The one tensor that `text` means. Raises AmbiguousName with the names where there are several."""
    found = resolve(text, context)
    if len(found) > 1:
        names = ", ".join(held.fqn for held in found[:5]) + (f" and {len(found) - 5} more" if len(found) > 5 else "")
        raise AmbiguousName(f"{text} matches {len(found)} tensors: {names}.")
    return found[0]


def _resolve_name(text: str, listed: Listed, context: Context) -> list[Held]:
    held = [tensor for _, tensors in listed for tensor in tensors]
    if found := _pick(text, held):
        return found
    if text.endswith(".grad") and (owners := _pick(text.removesuffix(".grad"), held)):
        return _require(
            [grad for owner in owners if (grad := gradient_of(owner))],
            f"{', '.join(owner.fqn for owner in owners[:3])} has no gradient now.",
        )
    base, _, state = text.rpartition(".")
    if base and (owners := [owner for owner in _pick(base, held) if owner.role == "parameter"]):
        optimizers = context.model.optimizers()
        states = [item for owner in owners for item in optimizer_state_of(owner, optimizers)]
        if state == "optim":
            return _require(states, f"No optimizer has state for {base} yet.")
        if found := [item for item in states if item.fqn.rsplit(".", 1)[1] == state]:
            return found
    return _resolve_module(text, listed, context)


def _resolve_module(text: str, listed: Listed, context: Context) -> list[Held]:
    found: dict[int, Held] = {}
    wanted = {entry.fqn for entry in context.model.find_entries(text)}
    for number, (entry, _) in enumerate(listed):
        if entry.fqn in wanted:
            found.update((id(held), held) for _, tensors in tensors_below(listed, number) for held in tensors)
    if wanted and not found:
        raise UnknownName(f"{text} has no parameters or buffers.")
    return list(found.values())


def _pick(text: str, held: list[Held]) -> list[Held]:
    wanted = set(match_names(text, [tensor.fqn for tensor in held])) if text else set()
    return [tensor for tensor in held if tensor.fqn in wanted]


def _require(found: list[Held], sentence: str) -> list[Held]:
    if not found:
        raise UnknownName(sentence)
    return found


def _resolve_at_stop(text: str, name: str, path: str, context: Context) -> list[Held]:
    args, kwargs = context.inputs if context.inputs is not None else ((), {})
    value: object
    if name == "input":
        inputs: dict[int | str, object] = dict(enumerate(args))
        inputs.update(kwargs)
        value = inputs if context.inputs is not None else None
    else:
        value = context.output if name == "output" else context.grad_output
    if value is None:
        if context.evaluate is not None and context.frame_locals is not None and name in context.frame_locals:
            return _resolve_expression(text, [], context)
        if not context.is_stopped:
            raise NotStoppedError(f"{name} exists only at a stop: break MODULE first.")
        where = {"input": "forward", "output": "end", "grad_output": "backward"}[name]
        raise UnknownName(f"There is no {name} at this stop: break MODULE {where} stops where there is one.")
    for step in _STEP.finditer(path):
        value = _take(text, value, step, context)
    found = list(_flatten(text, value, name))
    if not found:
        raise UnknownName(f"There is no tensor in {text}: it is {type(value).__name__}.")
    return found


def _take(text: str, value: object, step: re.Match[str], context: Context) -> object:
    key: object = step["attribute"]
    if step["key"] is not None:
        key = int(step["key"]) if step["key"].strip().lstrip("-").isdigit() else step["key"].strip("'\" ")
    try:
        if isinstance(value, Mapping):
            names = _input_names(context)
            if key not in value and isinstance(key, str) and key in names and names.index(key) in value:
                key = names.index(key)
            return value[key]
        if isinstance(key, int):
            return value[key]  # type: ignore[index]
        return getattr(value, str(key))
    except (KeyError, IndexError, AttributeError, TypeError):
        there = ", ".join(map(str, value)) if isinstance(value, Mapping) else type(value).__name__
        raise UnknownName(f"{text}: no {key} there. There is: {there}.") from None


def _input_names(context: Context) -> list[str]:
    return parameter_names(context.module) if context.module is not None else []


def _resolve_expression(text: str, held: list[Held], context: Context) -> list[Held]:
    names = [tensor.fqn for tensor in held] + [e.fqn for e in context.model.entries() if e.fqn]
    is_name = bool(_NAME.fullmatch(text))
    if context.evaluate is None:
        if is_name:
            raise unknown_name("tensor or module", text, names, "placements")
        raise NotStoppedError(f"{text!r} is an expression: it needs a stopped rank.")
    try:
        value = context.evaluate(text)
    except EvaluationError as error:
        if is_name:
            raise unknown_name("tensor, module or local", text, names, "placements") from error
        raise
    found = list(_flatten(text, value, "value"))
    if not found:
        raise UsageError(f"{text} is {type(value).__name__}, not a tensor: print {text} shows it.")
    return found


def _flatten(label: str, value: object, role: str, depth: int = 0) -> Iterator[Held]:
    if isinstance(value, torch.Tensor):
        yield Held(label, value, role, identity=value)
    elif depth < _MAX_DEPTH and isinstance(value, Mapping):
        for key, item in value.items():
            yield from _flatten(f"{label}[{key!r}]", item, role, depth + 1)
    elif depth < _MAX_DEPTH and isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from _flatten(f"{label}[{index}]", item, role, depth + 1)
