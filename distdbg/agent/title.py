"""Names of groups and collectives as the user knows them."""

from __future__ import annotations

from typing import Any

_STEMS = {
    "allreduce": "all_reduce",
    "reduce_scatter": "reduce_scatter",
    "allgather": "all_gather",
    "alltoall": "all_to_all",
    "broadcast": "broadcast",
    "reduce": "reduce",
    "gather": "gather",
    "scatter": "scatter",
    "barrier": "barrier",
    "monitored_barrier": "barrier",
    "send": "send",
    "recv": "recv",
}
COLLECTIVES = frozenset(_STEMS.values()) | {
    "all_gather_into_tensor", "all_gather_object", "all_to_all_single", "all_reduce_coalesced", "batch_isend_irecv",
    "broadcast_object_list", "gather_object", "irecv", "isend", "reduce_scatter_tensor", "scatter_object_list",
    "wait_tensor",
}  # fmt: skip
"""Python functions of torch.distributed that communicate, as they appear on a stack."""


def collective_title(operator: str) -> str:
    """`all_gather` for the dispatcher's `allgather_into_tensor_coalesced_`."""
    bare = operator.strip("_")
    stem = max((stem for stem in _STEMS if bare.startswith(stem)), key=len, default="")
    return _STEMS.get(stem, bare)


def group_title(group: Any) -> str:
    """`tp` for the group of a mesh axis, else the name it was given, `world` for the default one."""
    described = group.group_desc if group.group_desc not in ("", "undefined") else group.group_name
    return "world" if described in ("default_pg", "0") else str(described).removeprefix("mesh_")
