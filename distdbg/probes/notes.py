"""What the reader of a printed value must know: a number taken from a local shard is not the whole tensor's."""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
from torch import nn

from distdbg.probes.summary import describe_placements
from distdbg.probes.tensor import as_dtensor, axes_of

_METADATA = frozenset({
    "shape", "size", "dim", "ndim", "numel", "nelement", "dtype", "device", "requires_grad", "is_leaf", "grad_fn",
    "placements", "device_mesh", "layout", "stride", "element_size", "is_contiguous", "itemsize", "is_floating_point",
    "is_complex", "is_cuda", "names", "_version", "full_tensor", "redistribute", "retains_grad", "ndimension",
})  # fmt: skip
"""Attributes of a DTensor that are about the whole tensor, or make it whole."""

_WHOLE = frozenset({"len", "type", "id", "isinstance", "issubclass", "hasattr", "repr", "str", "callable"})


def note_for(text: str, value: object, names: Mapping[str, object] | Callable[[str], object]) -> str:
    """`local part only: W is S(0) on tp` where a plain value came from a sharded or partial DTensor; else empty.

    `value` is what `text` evaluated to; `names` holds the names of the same frame, or evaluates one of them.
    """
    if not _hides_placements(value):
        return ""
    dtensor = as_dtensor(value)
    if dtensor is not None and not _list_cuts(dtensor):
        return ""
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except (SyntaxError, ValueError):
        return ""
    finder = _Finder(names.__getitem__ if isinstance(names, Mapping) else names)
    finder.visit(tree)
    return f"local part only: {', '.join(finder.found)}" if finder.found else ""


def _hides_placements(value: object) -> bool:
    if isinstance(value, torch.Tensor):
        return as_dtensor(value) is None or value.dim() == 0
    if isinstance(value, (list, tuple)):
        return any(_hides_placements(item) for item in value[:64])
    return isinstance(value, (int, float, complex))


def _list_cuts(dtensor: torch.Tensor) -> str:
    """`S(0) on tp`, or empty where the tensor is whole on every rank."""
    found = as_dtensor(dtensor)
    placements = [str(placement) for placement in found.placements]
    if all(placement == "R" for placement in placements):
        return ""
    return describe_placements(axes_of(found.device_mesh), placements)


class _Finder(ast.NodeVisitor):
    """Collects `W is S(0) on tp` for each chain of names that is a sharded or partial DTensor."""

    def __init__(self, evaluate_name: Callable[[str], object]) -> None:
        self._evaluate_name = evaluate_name
        self.found: dict[str, None] = {}

    def visit_Call(self, node: ast.Call) -> None:
        if isinstance(node.func, ast.Name) and node.func.id in _WHOLE:
            return
        self.generic_visit(node)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        self._visit_chain(node)

    def visit_Subscript(self, node: ast.Subscript) -> None:
        self._visit_chain(node)

    def visit_Name(self, node: ast.Name) -> None:
        self._visit_chain(node)

    def _visit_chain(self, node: ast.expr) -> None:
        try:
            value = self._follow(node)
        except Exception:  # the name has gone meanwhile: then nothing can be said about it
            value = None
        if isinstance(value, torch.Tensor):
            if as_dtensor(value) is not None and (cuts := _list_cuts(value)):
                self.found[f"{ast.unparse(node)} is {cuts}"] = None
        elif isinstance(node, ast.Attribute):
            if node.attr in _METADATA and isinstance(self._peek(node.value), torch.Tensor):
                return
            self.visit(node.value)
        elif isinstance(node, ast.Subscript):
            self.visit(node.value)
            self.visit(node.slice)

    def _peek(self, node: ast.expr) -> object:
        try:
            return self._follow(node)
        except Exception:  # as in _visit_chain
            return None

    def _follow(self, node: ast.expr) -> object:
        """The value of a chain of names, attributes and constant indices; indexing a tensor would communicate."""
        if isinstance(node, ast.Name):
            return self._evaluate_name(node.id)
        if isinstance(node, ast.Attribute):
            base = self._follow(node.value)
            if isinstance(base, torch.Tensor) and node.attr not in ("grad", "data"):
                raise LookupError(node.attr)
            return getattr(base, node.attr)
        if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
            base = self._follow(node.value)
            if isinstance(base, (list, tuple, dict, nn.ModuleList, nn.ModuleDict, nn.Sequential)):
                return cast(Any, base)[node.slice.value]
        raise LookupError
