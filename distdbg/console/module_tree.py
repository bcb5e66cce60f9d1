"""Modules as lines of a tree; equal numbered siblings become one line."""

from __future__ import annotations

from dataclasses import dataclass

from distdbg.schema.tensor import Module


@dataclass(frozen=True)
class Line:
    """One line: `label` is the last part of the name, or `0-31 (32 x)` for folded siblings."""

    depth: int
    label: str
    module: Module


def fold(modules: list[Module], *, is_folding: bool = True) -> list[Line]:
    """Lines in definition order. Depth follows the names that are there, so that a filtered list stays readable."""
    names = {module.fqn for module in modules}
    children: dict[str | None, list[Module]] = {}
    for module in modules:
        children.setdefault(_parent(module.fqn, names), []).append(module)
    lines: list[Line] = []
    _add(None, 0, children, is_folding, lines)
    return lines


def _parent(fqn: str, names: set[str]) -> str | None:
    """The nearest ancestor that is in the list; the root is the empty name."""
    while fqn:
        fqn = fqn.rpartition(".")[0]
        if fqn in names:
            return fqn
    return None


def _add(
    parent: str | None, depth: int, children: dict[str | None, list[Module]], is_folding: bool, lines: list[Line]
) -> None:
    group = children.get(parent, [])
    index = 0
    while index < len(group):
        module = group[index]
        label = module.fqn.removeprefix(f"{parent}.") if parent else module.fqn
        run = index + 1
        if is_folding and label.isdigit():
            while run < len(group) and _is_twin(module, group[run], children):
                run += 1
        if run - index > 2:
            last = group[run - 1].fqn.rpartition(".")[2]
            label = f"{label}-{last} ({run - index} x)"
        else:
            run = index + 1
        lines.append(Line(depth, label, module))
        _add(module.fqn, depth + 1, children, is_folding, lines)
        index = run


def _is_twin(one: Module, other: Module, children: dict[str | None, list[Module]]) -> bool:
    """Same class, same sizes, same children, and both are numbers."""
    if not other.fqn.rpartition(".")[2].isdigit() or _facts(one) != _facts(other):
        return False
    left, right = children.get(one.fqn, []), children.get(other.fqn, [])
    return len(left) == len(right) and all(
        a.fqn.removeprefix(one.fqn) == b.fqn.removeprefix(other.fqn)
        and _facts(a) == _facts(b)
        and (not children.get(a.fqn) or _is_equal_below(a, b, children))
        for a, b in zip(left, right, strict=True)
    )


def _is_equal_below(one: Module, other: Module, children: dict[str | None, list[Module]]) -> bool:
    left, right = children.get(one.fqn, []), children.get(other.fqn, [])
    return len(left) == len(right) and all(
        _facts(a) == _facts(b) and _is_equal_below(a, b, children) for a, b in zip(left, right, strict=True)
    )


def _facts(module: Module) -> tuple[object, ...]:
    return (module.class_name, module.num_params, module.local_params, module.local_bytes, module.wrapper)
