"""Parameters and buffers by the names the user gave them, gradients and optimizer state beside them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch

from distdbg.probes.device import quiet
from distdbg.probes.fsdp import Managed, Slot, find_managed, is_flat_parameter
from distdbg.probes.model import Entry, ModelIndex
from distdbg.probes.wrapper import is_keras


class Held(NamedTuple):
    """A tensor as this rank holds it, under the user's name for it. Strong references: only for one answer.

    `shape` is the original shape where `tensor` is a flat piece of it, `flat` the (first, count) of that piece's
    elements. `identity` is equal for a parameter shared under several names.
    """

    fqn: str
    tensor: torch.Tensor
    role: str = "value"
    note: str = ""
    shape: tuple[int, ...] | None = None
    flat: tuple[int, int] | None = None
    identity: object = None
    managed: Managed | None = None


def list_tensors(model: ModelIndex) -> list[tuple[Entry, list[Held]]]:
    """Every module with the parameters and buffers that it owns itself, in definition order."""
    entries = model.entries()
    with quiet():
        slots = find_managed(part for entry in entries for part in (*entry.wrappers, entry.module))
    names: dict[int, list[str]] = {}
    for owner, name in slots:
        names.setdefault(owner, []).append(name)
    return [(entry, list(_own_tensors(entry, slots, names.get(id(entry.module), ())))) for entry in entries]


def gradient_of(held: Held) -> Held | None:
    """The gradient of a parameter, or None while there is none."""
    if held.managed is not None:
        grad, note = held.managed.grad, held.managed.grad_note
    else:
        tensor = held.tensor
        # .grad of other tensors warns, and is None anyway.
        grad, note = (tensor.grad if tensor.is_leaf or tensor.retains_grad else None), ""
    if grad is None:
        return None
    shape = held.shape if held.flat else None
    return Held(f"{held.fqn}.grad", grad, "gradient", note or (held.note if held.flat else ""), shape, held.flat, grad)


def optimizer_state_of(held: Held, optimizers: Sequence[torch.optim.Optimizer]) -> list[Held]:
    """Tensors that an optimizer keeps for a parameter, as `NAME.exp_avg`."""
    key = held.managed.key if held.managed else held.tensor
    with quiet():
        return list(_iterate_state(held, optimizers, key))


def _iterate_state(held: Held, optimizers: Sequence[torch.optim.Optimizer], key: torch.Tensor) -> Iterator[Held]:
    for optimizer in optimizers:
        state: dict[str, object]
        if key in optimizer.state:
            state = optimizer.state[key]
        elif held.flat is not None and held.flat[1] == 0:
            # FSDP1 gives a rank that holds nothing of a parameter no state for it; the others have what its like have.
            state = {name: value.view(-1)[:0] for name, value in _state_of_any(optimizer).items() if value.dim()}
        else:
            continue
        for name, value in state.items():
            if isinstance(value, torch.Tensor):
                yield _slice_state(held, f"{held.fqn}.{name}", value)


def tensors_below(listed: Sequence[tuple[Entry, list[Held]]], number: int) -> list[tuple[Entry, list[Held]]]:
    """The part of `list_tensors` that is the module at index `number` and everything inside it."""
    top = listed[number][0]
    end = number + 1
    while end < len(listed) and listed[end][0].root == top.root and listed[end][0].depth > top.depth:
        end += 1
    return list(listed[number:end])


def _state_of_any(optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    state: dict[str, object] = next(iter(optimizer.state.values()), {})
    return {name: value.detach() for name, value in state.items() if isinstance(value, torch.Tensor)}


def _slice_state(held: Held, fqn: str, value: torch.Tensor) -> Held:
    state = Held(fqn, value, "optimizer", identity=value)
    if held.managed is None or held.flat is None or value.dim() == 0:
        return state
    if held.managed.state_slice is not None:
        at, length = held.managed.state_slice
        value = value.detach().view(-1)[at : at + length]
    return state._replace(tensor=value, note=held.note, shape=held.shape, flat=held.flat)


def _own_tensors(entry: Entry, slots: dict[Slot, Managed], managed_names: Sequence[str]) -> Iterator[Held]:
    module = entry.module
    own = {n: p for n, p in list((vars(module).get("_parameters") or {}).items()) if p is not None}
    for name in dict.fromkeys([*own, *managed_names]):
        managed = slots.get((id(module), name))
        fqn = f"{entry.fqn}.{name}" if entry.fqn else name
        if managed is not None:
            yield Held(
                fqn, managed.tensor, "parameter", managed.note, managed.shape, managed.flat, managed.identity, managed
            )
        elif not is_flat_parameter(own[name]):
            yield Held(fqn, own[name], "parameter", identity=own[name])
    for name, buffer in list((vars(module).get("_buffers") or {}).items()):
        if buffer is not None:
            yield Held(f"{entry.fqn}.{name}" if entry.fqn else name, buffer, "buffer", identity=buffer)
    keras = (vars(module).get("_modules") or {}).get("_torch_params")
    if keras is not None and is_keras(module):
        # Keras keys its variables by their full path, which holds no dot: `/` is the only border.
        for path, variable in list((vars(keras).get("_parameters") or {}).items()):
            if variable is not None:
                yield Held(path.replace("/", "."), variable, "parameter", identity=variable)
