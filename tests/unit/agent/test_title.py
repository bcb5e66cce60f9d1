"""Names of collectives and groups."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from distdbg.agent.title import collective_title, group_title


@pytest.mark.parametrize(
    ("operator", "title"),
    [
        ("allreduce_", "all_reduce"),
        ("allreduce_coalesced_", "all_reduce"),
        ("_allgather_base_", "all_gather"),
        ("allgather_into_tensor_coalesced_", "all_gather"),
        ("_reduce_scatter_base_", "reduce_scatter"),
        ("reduce_", "reduce"),
        ("reduce_scatter_", "reduce_scatter"),
        ("alltoall_base_", "all_to_all"),
        ("broadcast_", "broadcast"),
        ("barrier", "barrier"),
        ("monitored_barrier_", "barrier"),
        ("recv_any_source_", "recv"),
        ("something_new_", "something_new"),
    ],
)
def test_collectives(operator: str, title: str) -> None:
    assert collective_title(operator) == title


@pytest.mark.parametrize(
    ("desc", "name", "title"),
    [
        ("default_pg", "0", "world"),
        ("undefined", "0", "world"),
        ("mesh_tp", "12", "tp"),
        ("undefined", "7", "7"),
        ("", "7", "7"),
        ("experts", "7", "experts"),
    ],
)
def test_groups(desc: str, name: str, title: str) -> None:
    assert group_title(SimpleNamespace(group_desc=desc, group_name=name)) == title
