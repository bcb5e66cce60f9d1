"""`inspect`: a tensor with each rank's shard and its statistics."""

from __future__ import annotations

from distdbg.client.merge import merge
from distdbg.console.answers import report_answers
from distdbg.console.console import Console
from distdbg.console.registry import command
from distdbg.console.report import Report
from distdbg.console.syntax import TensorName
from distdbg.console.tensors import ask_tensors, inspected_data, is_outside, layout_hints, tensor_clusters, title_of
from distdbg.reporters import shape
from distdbg.reporters.units import number
from distdbg.reporters.view import Cell, Column, Span, Table, Text, View, ranks_span, stack, text
from distdbg.schema.ranks import Ranks
from distdbg.schema.tensor import Tensor

NUMBERS = tuple(Column(title, "right") for title in ("mean", "std", "min", "max", "nan", "inf", "zero"))


@command("inspect", aliases=("i",), family="look")
def inspect(console: Console, name: TensorName) -> Report:
    """Show a tensor: each rank's shard, statistics and fingerprint.
    NAME is a parameter, buffer, NAME.grad, optimizer state (NAME.exp_avg), input, output or an
    expression of the stopped frame. Ranks with equal shards share a row. std is that of the population.

        inspect layer.0.attention.wq.weight
        inspect wq.weight.grad
    """
    gathered, found = ask_tensors(console, name, with_stats=True)
    views: list[View] = []
    for fqn, members in found.items():
        views.append(_view(console, fqn if len(found) > 1 or fqn != name else "", members))
        if any("in flight" in tensor.note for tensor in members.values()):
            views.append(text(f"print {fqn}.sum() waits for it on all ranks; then its values are there"))
    return report_answers(stack(*views), gathered, tensor_clusters(found, inspected_data))


def _view(console: Console, fqn: str, members: dict[int, Tensor]) -> View:
    head = Text()
    for cluster in merge(members.items(), key=_head_identity):
        tensor = cluster.answer
        ranks = (" on ranks ", ranks_span(cluster.ranks)) if cluster.ranks != frozenset(members) else ()
        name = (Span(fqn, "title"), "  ") if fqn else ()
        head.add(*name, *title_of(tensor), *_facts(tensor), *ranks)
    if any(tensor.live for tensor in members.values()):
        head.add(Span("live: read while the rank runs, values may be of different iterations", "outlier"))
    below = Text(list(layout_hints(console, members)))
    return stack(head, _table(members), below)


def _head_identity(tensor: Tensor) -> object:
    return (tensor.kind, tensor.shape, tensor.dtype, tensor.axes, tensor.placements, tensor.has_grad)


def _facts(tensor: Tensor) -> tuple[str, ...]:
    facts = ""
    if tensor.requires_grad:
        facts += ", requires grad"
    if tensor.role == "parameter":
        facts += ", grad present" if tensor.has_grad else ", no grad" if tensor.requires_grad else ""
    elif tensor.role:
        facts += f", {tensor.role}"
    return (facts + (f", {tensor.note}" if tensor.note else ""),)


def _table(members: dict[int, Tensor]) -> Table:
    has_mesh = any(tensor.placements for tensor in members.values())
    table = Table(
        Column("rank", "right"), "coordinate" if has_mesh else "", Column("local", "right"),
        Column("offset" if has_mesh else "", "right"), *NUMBERS, "fingerprint", gap=2,
    )  # fmt: skip
    for cluster in merge(members.items(), key=_row_identity):
        tensor = cluster.answer
        table.add(
            ranks_span(cluster.ranks),
            _coordinate(members, cluster.ranks) if has_mesh else "",
            "none" if is_outside(tensor) else shape.shape(tensor.local_shape or (() if has_mesh else tensor.shape)),
            shape.shape(tensor.offset) if has_mesh and tensor.coordinate is not None else "",
            *(() if is_outside(tensor) else (*number_cells(tensor), _short(tensor.fingerprint))),
        )
    return table


def number_cells(tensor: Tensor) -> tuple[Cell, ...]:
    """The statistics of one shard under NUMBERS; NaN and Inf stand out."""
    stats = tensor.stats
    if stats is None:
        return ("",) * len(NUMBERS)
    bad = [Span(str(n), "error" if n else "") for n in (stats.num_nan, stats.num_inf)]
    return (*map(number, (stats.mean, stats.std, stats.min, stats.max)), *bad, str(stats.num_zero))


def _row_identity(tensor: Tensor) -> object:
    return (tensor.local_shape, tensor.offset, tensor.fingerprint, repr(tensor.stats), is_outside(tensor))


def _coordinate(members: dict[int, Tensor], ranks: Ranks) -> str:
    """`dp=0 tp=1`; an axis along which the row's ranks differ is `tp=*`."""
    tensors = [members[rank] for rank in sorted(ranks)]
    if tensors[0].coordinate is None:
        return "outside" if tensors[0].placements else ""
    words = []
    for index, axis in enumerate(tensors[0].axes):
        found = {tensor.coordinate[index] for tensor in tensors if tensor.coordinate}
        words.append(f"{axis}={found.pop()}" if len(found) == 1 else f"{axis}=*")
    return " ".join(words)


def _short(fingerprint: str | None) -> str:
    return fingerprint.rpartition(":")[2][:8] if fingerprint else ""
