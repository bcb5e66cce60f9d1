"""What placements, inspect, shards, stats and values share: asking for tensors, and tensors as data."""

from __future__ import annotations

from typing import TYPE_CHECKING

from distdbg.client.gather import Gathered
from distdbg.client.merge import merge
from distdbg.console.answers import replies_of
from distdbg.errors import AmbiguousName, UnknownName
from distdbg.reporters import shape
from distdbg.reporters.view import Span
from distdbg.schema.message import DescribeTensors, Tensors
from distdbg.schema.ranks import Ranks
from distdbg.schema.tensor import Stats, Tensor

if TYPE_CHECKING:
    from distdbg.console.console import Console

ByName = dict[str, dict[int, Tensor]]
"""fqn -> rank -> the tensor there."""


def ask_tensors(console: Console, name: str, *, with_stats: bool = False) -> tuple[Gathered, ByName]:
    """Ask the ranks in focus for every tensor that `name` means."""
    session = console.session
    request = DescribeTensors(name=name, with_stats=with_stats, frame=session.frame)
    gathered = session.ask(request, timeout_s=60.0 if with_stats else None)
    found: ByName = {}
    for rank, reply in replies_of(gathered, Tensors).items():
        for tensor in reply.tensors:
            found.setdefault(tensor.fqn, {})[rank] = tensor
    if not found and not gathered.failures:
        raise UnknownName(f"{name} has no tensor.")
    return gathered, found


def ask_one_tensor(console: Console, name: str) -> tuple[Gathered, dict[int, Tensor]]:
    """Ask for exactly one tensor; several are listed, never guessed."""
    gathered, found = ask_tensors(console, name)
    if len(found) > 1:
        listed = list(found)
        more = f" and {len(listed) - 8} more" if len(listed) > 8 else ""
        raise AmbiguousName(f"{name} means {len(listed)} tensors: {', '.join(listed[:8])}{more}. Choose one.")
    return gathered, next(iter(found.values()))


def tensor_data(tensor: Tensor) -> dict[str, object]:
    """A tensor for `--json`, without what changes from one look to the next."""
    data: dict[str, object] = {
        "fqn": tensor.fqn,
        "kind": tensor.kind,
        "shape": tensor.shape,
        "dtype": tensor.dtype,
        "device": tensor.device,
        "role": tensor.role,
        "local_shape": tensor.local_shape or tensor.shape,
        "local_bytes": tensor.local_bytes,
    }
    if tensor.placements:
        data |= {
            "axes": tensor.axes,
            "mesh_shape": tensor.mesh_shape,
            "coordinate": tensor.coordinate,
            "placements": tensor.placements,
            "offset": tensor.offset,
        }
    return data | ({"note": tensor.note} if tensor.note else {})


def inspected_data(tensor: Tensor) -> dict[str, object]:
    """A tensor for `--json` with its statistics."""
    return tensor_data(tensor) | {
        "stats": stats_data(tensor.stats) if tensor.stats else None,
        "fingerprint": tensor.fingerprint,
        "live": tensor.live,
        "requires_grad": tensor.requires_grad,
        "has_grad": tensor.has_grad,
    }


def stats_data(stats: Stats) -> dict[str, object]:
    """Statistics for `--json`."""
    return {name: getattr(stats, name) for name in stats.__struct_fields__}


def tensor_clusters(found: ByName, describe: object) -> list[tuple[Ranks, object]]:
    """Equal lists of tensors, one object per tensor, as clusters of ranks."""
    assert callable(describe)
    by_rank: dict[int, list[object]] = {}
    for members in found.values():
        for rank, tensor in members.items():
            by_rank.setdefault(rank, []).append(describe(tensor))
    return [(cluster.ranks, cluster.answer) for cluster in merge(by_rank.items())]


def is_outside(tensor: Tensor) -> bool:
    """Whether this rank is not in the tensor's mesh and so holds none of it."""
    return bool(tensor.placements) and tensor.coordinate is None


def title_of(tensor: Tensor) -> tuple[str | Span, ...]:
    """`DTensor f32[36, 36] on dp=2 x tp=2, dp=_S(0, 2) tp=S(0)`."""
    if not tensor.placements:
        return (f"plain {tensor.kind} {shape.typed(tensor)} on {tensor.device}",)
    return (
        f"{tensor.kind} {shape.typed(tensor)} on {shape.mesh(tensor.axes, tensor.mesh_shape)}, ",
        Span(shape.placed(tensor), "placement"),
    )


def job_axes(console: Console) -> tuple[str, ...]:
    """Every axis of every mesh of the job."""
    return console.session.context().axes


def layout_hints(console: Console, members: dict[int, Tensor]) -> list[str]:
    """What the placements mean that one could miss."""
    hints: list[str] = []
    tensor = next(iter(members.values()))
    if not tensor.placements:
        return hints
    for axis, placement in zip(tensor.axes, tensor.placements, strict=True):
        if placement.startswith("P"):
            how = placement[placement.find("(") + 1 : -1] or "sum"
            hints.append(f"partial on {axis}: the value is the {how} of what the {axis} ranks hold")
    if any(is_outside(each) for each in members.values()):
        return hints
    for axis in job_axes(console):
        if axis not in tensor.axes and not _covers(console, tensor, axis):
            hints.append(f"not on {axis}: each {axis} rank should hold the same; inspect shows their fingerprints")
    return hints


def _covers(console: Console, tensor: Tensor, axis: str) -> bool:
    """Whether the tensor's mesh is flattened from, or otherwise spans, `axis` too."""
    coordinates = console.session.context().coordinates
    indices = {coordinates[rank].get(axis) for rank in tensor.mesh_ranks if rank in coordinates}
    return not tensor.mesh_ranks or len(indices) > 1
