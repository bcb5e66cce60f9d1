"""`mesh`: every DeviceMesh, drawn."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

from distdbg.client.merge import merge
from distdbg.console.answers import replies_of, report_answers
from distdbg.console.console import Console
from distdbg.console.registry import command
from distdbg.console.report import Report
from distdbg.reporters import shape
from distdbg.reporters.view import Column, Span, Table, Text, View, ranks_span, stack, text
from distdbg.schema.message import ListMeshes, Meshes
from distdbg.schema.ranks import Ranks
from distdbg.schema.tensor import Mesh


@command("mesh", family="ranks")
def mesh(console: Console) -> Report:
    """Show every device mesh: its axes and which rank is where.

    Meshes of the same axes over different ranks (the slices of a larger one) share a line.
    """
    gathered = console.session.ask(ListMeshes(), console.prefix or console.session.context().ranks)
    replies = replies_of(gathered, Meshes)
    found: dict[tuple[tuple[str, ...], tuple[int, ...]], dict[tuple[int, ...], str]] = {}
    for reply in replies.values():
        for each in reply.meshes:
            found.setdefault((each.axes, each.shape), {}).setdefault(each.ranks, each.device)
    views = [_view(axes, sizes, members) for (axes, sizes), members in found.items()]
    members_of = {ranks for (_, _), members in found.items() for ranks in members}
    outside = frozenset(replies) - {rank for ranks in members_of for rank in ranks}
    if not views:
        views.append(text("No device mesh. DDP and plain groups need none."))
    elif outside:
        views.append(text(("in no mesh: ", ranks_span(outside))))
    data: list[tuple[Ranks, object]] = [
        (cluster.ranks, [_data(each) for each in cluster.answer.meshes]) for cluster in merge(replies.items())
    ]
    return report_answers(stack(*views), gathered, data)


def _view(axes: tuple[str, ...], sizes: tuple[int, ...], members: dict[tuple[int, ...], str]) -> View:
    device = next(iter(members.values()))
    head = Text()
    title = f"{shape.mesh(axes, sizes)}" + (f" · {device}" if device else "")
    lists = sorted(members)
    if len(lists) > 1 or len(sizes) == 1:
        shown: list[str | Span] = []
        for ranks in lists[:16]:
            shown += [" | " if shown else "", Span(_in_order(ranks), "rank")]
        head.add(f"{title} · ranks ", *shown, " …" if len(lists) > 16 else "")
        return head
    head.add(f"{title} · ranks ", ranks_span(lists[0]))
    return stack(head, *_blocks(axes, sizes, lists[0]))


def _in_order(ranks: tuple[int, ...]) -> str:
    return str(ranks_span(ranks).text) if list(ranks) == sorted(ranks) else ",".join(map(str, ranks))


def _blocks(axes: tuple[str, ...], sizes: tuple[int, ...], ranks: tuple[int, ...]) -> Iterable[View]:
    """A table of the last two axes for each index of the axes before them."""
    *outer, rows, columns = sizes
    for block, index in enumerate(itertools.product(*(range(size) for size in outer))):
        if outer:
            yield text("  " + " ".join(f"{axis}={i}" for axis, i in zip(axes, index, strict=False)))
        right = [Column(f"{axes[-1]} {j}", "right") for j in range(columns)]
        table = Table("", *right, indent=4)
        for row in range(rows):
            start = (block * rows + row) * columns
            table.add(f"{axes[-2]} {row}", *(Span(str(rank), "rank") for rank in ranks[start : start + columns]))
        yield table


def _data(mesh: Mesh) -> dict[str, object]:
    return {
        "axes": mesh.axes,
        "shape": mesh.shape,
        "ranks": mesh.ranks,
        "coordinate": mesh.coordinate,
        "device": mesh.device,
    }
