"""`values`: numbers of a tensor by global index, fetched only from the ranks that own them."""

from __future__ import annotations

from distdbg.client.gather import Gathered
from distdbg.console.answers import replies_of, report_answers
from distdbg.console.blocks import Box, read_layout, volume
from distdbg.console.console import Console
from distdbg.console.registry import command
from distdbg.console.report import Report
from distdbg.console.slices import read_slices, split_slices
from distdbg.console.syntax import TensorName
from distdbg.console.tensors import ask_one_tensor
from distdbg.console.value_tables import Value, draw_values
from distdbg.errors import DistdbgError, UsageError
from distdbg.reporters.view import Span, Text, stack
from distdbg.schema.message import ReadValues, Values
from distdbg.schema.ranks import Ranks
from distdbg.schema.tensor import Tensor


@command("values", family="look")
def values(console: Console, name: TensorName) -> Report:
    """Show values of a tensor by global index.
     Only the ranks that own them are asked. Slices are those of Python without a step: a:b, :b, a:, one
    index, negative from the end. A dim without a slice shows its first 6.

        values wq.weight[17:19, 0:3]
        values wq.weight[-1]
    """
    bare, written = split_slices(name)
    try:
        described, tensors = ask_one_tensor(console, bare)
    except UsageError as error:
        if not written:
            raise
        # The brackets may be part of the name: input[0] where there are several inputs.
        bare, written = name, []
        try:
            described, tensors = ask_one_tensor(console, bare)
        except DistdbgError:
            raise error from None
    tensor = next(iter(tensors.values()))
    box, dropped, is_cut = read_slices(written, tensor.shape)
    if volume(box) > console.settings.limit:
        raise UsageError(
            f"That is {volume(box)} values of {_shape_text(tensor)}; the limit is {console.settings.limit}. "
            "Narrow the slices, or: set limit N."
        )
    owners = choose_owners(tensors, box)
    request = ReadValues(
        name=bare, starts=tuple(low for low, _ in box), stops=tuple(high for _, high in box),
        limit=console.settings.limit, frame=console.session.frame,
    )  # fmt: skip
    gathered = console.session.ask(request, owners) if owners else Gathered()
    known, is_live = _collect(gathered)
    notes = _notes(tensor, owners, is_live)
    if is_cut:
        notes.add(f"the beginning of {_shape_text(tensor)}; {bare}[a:b, c:d] shows another part")
    if any(key not in known for key in _indices(box)):
        notes.add(Span("? is held by no rank that was asked", "outlier"))
    view = stack(draw_values(known, box, dropped), notes)
    data: list[tuple[Ranks, object]] = [
        (frozenset((rank,)), _data(reply)) for rank, reply in sorted(gathered.replies.items())
    ]
    missing = {rank: why for rank, why in described.missing.items() if any(key not in known for key in _indices(box))}
    whole = Gathered(gathered.replies, gathered.failures, {**missing, **gathered.missing})
    return report_answers(view, whole, data)


def choose_owners(tensors: dict[int, Tensor], box: Box) -> Ranks:
    """One rank for each block that meets the box: the lowest that holds it."""
    layout = read_layout(tensors)
    chosen = set()
    for owned, ranks in layout.owners.items():
        meets = all(a < d and c < b for (a, b), (c, d) in zip(owned, box, strict=True))
        if meets or not layout.is_tiled:
            chosen.add(min(ranks))
    return frozenset(chosen)


def _collect(gathered: Gathered) -> tuple[dict[tuple[int, ...], Value], bool]:
    """Global index -> (value, rank), and whether any of it is live."""
    known: dict[tuple[int, ...], Value] = {}
    is_live = False
    if not gathered.ranks:
        return known, is_live
    for rank, reply in replies_of(gathered, Values).items():
        is_live = is_live or reply.live
        for piece in reply.pieces:
            ends = tuple((start, start + size) for start, size in zip(piece.start, piece.shape, strict=True))
            for index, value in zip(_indices(ends), piece.values, strict=False):
                known.setdefault(index, (value, rank))
    return known, is_live


def _indices(box: Box) -> list[tuple[int, ...]]:
    result: list[tuple[int, ...]] = [()]
    for low, high in box:
        result = [(*index, i) for index in result for i in range(low, high)]
    return result


def _notes(tensor: Tensor, owners: Ranks, is_live: bool) -> Text:
    notes = Text()
    if is_live:
        notes.add(Span("live: read while the ranks run, pieces may be of different iterations", "outlier"))
    if not tensor.placements and owners:
        notes.add(f"plain: the copy of rank {min(owners)}; @RANK values shows another's")
    for axis, word in zip(tensor.axes, tensor.placements, strict=False):
        if word.startswith("P"):
            notes.add(Span(f"partial on {axis}: these are one rank's terms, not the value", "outlier"))
    return notes


def _data(reply: object) -> dict[str, object]:
    assert isinstance(reply, Values)
    pieces = [{"start": piece.start, "shape": piece.shape, "values": piece.values} for piece in reply.pieces]
    return {"dtype": reply.dtype, "live": reply.live, "pieces": pieces}


def _shape_text(tensor: Tensor) -> str:
    return "[" + ", ".join(map(str, tensor.shape)) + "]"
