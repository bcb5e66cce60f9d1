from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor
from torch.distributed.tensor.placement_types import Partial, Replicate, Shard

from distdbg.probes.notes import note_for

SHARDED = "local part only: W is S(0) on tp"


@pytest.fixture
def names(be_rank: Callable[[int, int], None]) -> dict[str, Any]:
    be_rank(0, 2)
    mesh = init_device_mesh("cpu", (2,), mesh_dim_names=("tp",))

    def make(placement: Any) -> DTensor:
        return DTensor.from_local(torch.ones(2, 3), mesh, (placement,), run_check=False)

    sharded = make(Shard(0))
    return {
        "W": sharded, "P": make(Partial()), "R": make(Replicate()), "x": torch.ones(2), "torch": torch,
        "self": SimpleNamespace(weight=sharded, layers=[sharded]), "n": 3,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "note"),
    [
        ("W.sum().item()", SHARDED),
        ("W.sum()", SHARDED),
        ("float(W.norm())", SHARDED),
        ("bool(W.isnan().any())", SHARDED),
        ("W.to_local()", SHARDED),
        ("torch.sum(W).item() + n", SHARDED),
        ("P.sum().item()", "local part only: P is P(sum) on tp"),
        ("self.weight.sum().item()", "local part only: self.weight is S(0) on tp"),
        ("self.layers[0].sum().item()", "local part only: self.layers[0] is S(0) on tp"),
        ("R.sum().item()", ""),
        ("x.sum().item()", ""),
        ("W.shape[0]", ""),
        ("W.size(0) + W.numel()", ""),
        ("self.weight.ndim", ""),
        ("len(W)", ""),
        ("W * 2", ""),
    ],
)
def test_note_where_a_plain_value_hides_a_shard(names: dict[str, Any], text: str, note: str) -> None:
    value = eval(text, dict(names))
    assert note_for(text, value, names) == note
    assert note_for(text, value, names.__getitem__) == note


def test_what_cannot_be_read_has_no_note(names: dict[str, Any]) -> None:
    assert note_for("gone.sum()", 3.0, names) == ""
    assert note_for("W.sum(", 3.0, names) == ""
    assert note_for("'W'", "W", names) == ""
