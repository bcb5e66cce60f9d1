"""Descriptions of meshes, modules and tensors: shapes, names and numbers, never the data itself."""

from __future__ import annotations

import msgspec


class Mesh(msgspec.Struct, frozen=True, kw_only=True):
    """A DeviceMesh as one rank sees it. `ranks` is row-major over `shape`; `coordinate` is None outside the mesh."""

    axes: tuple[str, ...]
    shape: tuple[int, ...]
    ranks: tuple[int, ...]
    coordinate: tuple[int, ...] | None = None
    device: str = ""


class Module(msgspec.Struct, frozen=True, kw_only=True):
    """One module of the model on this rank. Counts include its children; a shared parameter counts once.

    `num_params`/`global_bytes` are over global shapes, `local_params`/`local_bytes` what this rank holds.
    """

    fqn: str
    class_name: str
    depth: int
    num_params: int
    local_params: int
    global_bytes: int
    local_bytes: int
    wrapper: str = ""


class Stats(msgspec.Struct, frozen=True, kw_only=True):
    """Statistics over the local shard. mean, std (population), min, max are over finite values, None without any."""

    count: int
    mean: float | None
    std: float | None
    min: float | None
    max: float | None
    num_nan: int
    num_inf: int
    num_zero: int


class Tensor(msgspec.Struct, frozen=True, kw_only=True):
    """One tensor as one rank holds it.

    `shape` is global for a DTensor, `local_shape` this rank's shard, `offset` the global index of its first element.
    `placements` are as torch prints them: S(0), R, P(sum), _S(0, 2). `fingerprint` is `ALGORITHM:HEX` over the local
    bytes. `live` marks a read of a running rank, not synchronised with its training thread.
    """

    fqn: str
    kind: str
    shape: tuple[int, ...]
    dtype: str
    device: str
    axes: tuple[str, ...] = ()
    mesh_shape: tuple[int, ...] = ()
    mesh_ranks: tuple[int, ...] = ()
    coordinate: tuple[int, ...] | None = None
    placements: tuple[str, ...] = ()
    local_shape: tuple[int, ...] = ()
    offset: tuple[int, ...] = ()
    local_bytes: int = 0
    role: str = "parameter"
    requires_grad: bool = False
    has_grad: bool = False
    note: str = ""
    stats: Stats | None = None
    fingerprint: str | None = None
    live: bool = False


class Piece(msgspec.Struct, frozen=True, kw_only=True):
    """Values of a box of a tensor that this rank owns: global `start` index per dim, `shape`, row-major values."""

    start: tuple[int, ...]
    shape: tuple[int, ...]
    values: tuple[float | int | bool | str, ...]
