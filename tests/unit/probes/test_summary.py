from __future__ import annotations

import enum
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor
from torch.distributed.tensor.placement_types import Replicate, Shard

from distdbg.probes.summary import describe_inputs, shorten_dtype, summarize


class Loud:
    def __repr__(self) -> str:
        raise AssertionError("a repr of the user's was called")


class Color(enum.Enum):
    RED = Loud()


class Block(nn.Module):
    def forward(self, x: torch.Tensor, mask: torch.Tensor | None = None, *rest: object) -> torch.Tensor:
        return x


@pytest.mark.parametrize(
    ("dtype", "short"),
    [
        (torch.float32, "f32"), (torch.bfloat16, "bf16"), (torch.int64, "i64"), (torch.uint8, "u8"),
        (torch.bool, "bool"),         (torch.float8_e4m3fn, "f8_e4m3fn"), (torch.complex64, "c64"),
    ],
)  # fmt: skip
def test_short_dtypes(dtype: torch.dtype, short: str) -> None:
    assert shorten_dtype(dtype) == short


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (torch.ones(4, 16), "f32[4, 16]"),
        (torch.ones((), dtype=torch.int64), "i64[]"),
        (torch.ones(2, device="meta"), "f32[2] meta"),
        ([torch.ones(2), None], "list of 2: f32[2], None"),
        ((1, 2.5), "tuple of 2: 1, 2.5"),
        ({"a": torch.ones(3), "b": [1]}, "dict of 2: 'a': f32[3], 'b': list of 1: 1"),
        (list(range(9)), "list of 9: 0, 1, 2, 3, …"),
        ([], "list of 0"),
        ("text", "'text'"),
        (None, "None"),
        (Path("/a"), "PosixPath('/a')"),
        (torch.float32, "torch.float32"),
        (Block(), "Block module"),
        (len, "function len"),
        (Loud, "class Loud"),
        (Loud(), "Loud object"),
        ([Loud()], "list of 1: Loud object"),
        (Color.RED, "Color.RED"),
    ],
)
def test_any_value_in_a_few_words(value: object, text: str) -> None:
    assert summarize(value) == text


def test_length_is_limited() -> None:
    assert len(summarize({"k" * 50: "v" * 50, "l" * 50: "w" * 50})) == 120
    assert len(summarize("x" * 10_000)) <= 120


def test_dtensor_names_axes_that_cut(be_rank: Callable[[int, int], None]) -> None:
    be_rank(0, 4)
    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("dp", "tp"))
    local = torch.ones(2, 3)
    assert summarize(DTensor.from_local(local, mesh, (Replicate(), Shard(0)))) == "f32[4, 3] S(0) on tp"
    assert summarize(DTensor.from_local(local, mesh, (Replicate(),) * 2, run_check=False)) == "f32[2, 3] R on dp, tp"
    sharded = DTensor.from_local(local, mesh, (Shard(0), Shard(1)))
    assert describe_inputs((sharded, local), {"flag": True}, Block(), ("dp", "tp")) == (
        "x      f32[4, 6]   S(0) on dp, S(1) on tp",
        "mask   f32[2, 3]   plain on dp, tp",
        "flag   True",
    )


def test_inputs_without_names_are_numbered() -> None:
    assert describe_inputs((1, 2, 3), {}, Block()) == ("x          1", "mask       2", "input[2]   3")
    assert describe_inputs((None,), {}, None) == ("input[0]   None",)
    assert describe_inputs(None, {}, Block()) == ()
