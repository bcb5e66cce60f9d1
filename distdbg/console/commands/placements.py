"""`placements`: how tensors lie on the mesh."""

from __future__ import annotations

from distdbg.client.merge import merge
from distdbg.console.answers import report_answers
from distdbg.console.console import Console
from distdbg.console.registry import command
from distdbg.console.report import Report
from distdbg.console.syntax import TensorName
from distdbg.console.tensors import ByName, ask_tensors, is_outside, layout_hints, tensor_clusters, tensor_data
from distdbg.reporters import shape
from distdbg.reporters.units import size
from distdbg.reporters.view import Column, Span, Table, Text, ranks_span, stack
from distdbg.schema.tensor import Tensor


@command("placements", aliases=("pl",), family="look")
def placements(console: Console, name: TensorName = "*") -> Report:
    """Show how tensors lie on the mesh.
    NAME is a parameter, a glob, a module (all of its parameters), input, output or an expression. Ranks
    with equal local shapes share a row. Nothing is communicated and no value is read. Without NAME all
    parameters and buffers are shown.

        placements layer.0.attention
        placements *.weight
        placements input
    """
    gathered, found = ask_tensors(console, name)
    view = stack(_table(found, name), _hints(console, found))
    return report_answers(view, gathered, tensor_clusters(found, tensor_data))


def _table(found: ByName, name: str) -> Table:
    tensors = [tensor for members in found.values() for tensor in members.values()]
    axes = list(dict.fromkeys(axis for tensor in tensors for axis in tensor.axes))
    prefix = _shared_prefix(list(found), name)
    right = Column("global", "right")
    table = Table(
        "", "", right, *(Column(axis, "center") for axis in axes), Column("local", "right"),
        Column("per rank", "right"), "",
    )  # fmt: skip
    for fqn, members in found.items():
        clusters = merge(members.items(), key=_row_identity)
        for index, cluster in enumerate(clusters):
            tensor = cluster.answer
            is_first = index == 0
            same = not is_first and _head(tensor, axes) == _head(clusters[0].answer, axes)
            head = _head(tensor, axes)
            noun = "ranks " if len(cluster.ranks) > 1 else "rank "
            whose = (noun, ranks_span(cluster.ranks)) if len(clusters) > 1 else ()
            table.add(
                fqn.removeprefix(prefix) if is_first else "",
                *([""] * len(head) if same else head),
                _local(tensor),
                size(tensor.local_bytes),
                (*whose, _remark(tensor)),
            )
    return table


def _row_identity(tensor: Tensor) -> object:
    return (tensor.shape, tensor.dtype, tensor.axes, tensor.placements, tensor.local_shape, is_outside(tensor))


def _head(tensor: Tensor, axes: list[str]) -> list[str | Span]:
    words = dict(zip(tensor.axes, tensor.placements, strict=False))
    return [
        shape.dtype(tensor.dtype),
        shape.shape(tensor.shape),
        *(Span(words.get(axis, "·"), "placement" if axis in words else "faint") for axis in axes),
    ]


def _local(tensor: Tensor) -> str:
    if is_outside(tensor):
        return "none"
    return shape.shape(tensor.local_shape if tensor.placements else tensor.local_shape or tensor.shape)


def _remark(tensor: Tensor) -> Span:
    if is_outside(tensor):
        return Span(" outside the mesh", "outlier")
    if tensor.placements and 0 in tensor.local_shape and 0 not in tensor.shape:
        return Span(" empty", "outlier")
    return Span("" if tensor.placements else " plain")


def _add_notes(view: Text, found: ByName) -> None:
    """Each note once, with whose it is when it is not everybody's. It may be of a moment: ranks run on meanwhile."""
    holders: dict[str, set[tuple[str, int]]] = {}
    for fqn, members in found.items():
        for rank, tensor in members.items():
            if tensor.note:
                holders.setdefault(tensor.note, set()).add((fqn, rank))
    total = sum(map(len, found.values()))
    for note, members_of in holders.items():
        names = sorted({fqn for fqn, _ in members_of})
        ranks = {rank for _, rank in members_of}
        if len(members_of) == total:
            view.add(note if len(found) == 1 else f"all: {note}")
        elif len(found) == 1 or len(names) == len(found):
            view.add("ranks " if len(ranks) > 1 else "rank ", ranks_span(ranks), f": {note}")
        else:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            view.add(f"{', '.join(names[:3])}{more} on ", ranks_span(ranks), f": {note}")


def _shared_prefix(names: list[str], typed: str) -> str:
    """The module in front of all names, when the user named a module: `model.layer.0.attention.`."""
    if len(names) == 1 or "*" in typed:
        return ""
    typed = typed.replace("/", ".").strip(".")
    for end in range(len(names[0]), 0, -1):
        prefix = names[0][:end]
        if prefix.endswith("." + typed) or prefix == typed:
            return prefix + "." if all(name.startswith(prefix + ".") for name in names) else ""
    return ""


def _hints(console: Console, found: ByName) -> Text:
    """One line per hint; with several tensors only those that all share."""
    hints = [layout_hints(console, members) for members in found.values()]
    common = [hint for hint in hints[0] if all(hint in each for each in hints)] if hints else []
    view = Text()
    _add_notes(view, found)
    for hint in common:
        view.add(hint)
    is_plain = all(not tensor.placements for members in found.values() for tensor in members.values())
    if is_plain and found and len(console.session.focus) > 1:
        view.add("plain: nothing shards or replicates it, each rank holds its own")
    return view
