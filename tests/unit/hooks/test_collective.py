"""Every collective is looked at while open, and the dispatcher is as it was when closed."""

from __future__ import annotations

import gc

import pytest
import torch
import torch.distributed as dist
from torch.distributed import _functional_collectives as funcol

from distdbg.hooks.collective import before_collectives

OPERATORS = [name for name in torch._C._dispatch_get_all_op_names() if name.startswith("c10d::") and "." not in name]


def hooked() -> list[str]:
    return [name for name in OPERATORS if torch._C._dispatch_has_kernel_for_dispatch_key(name, "BackendSelect")]


@pytest.mark.usefixtures("alone")
def test_collectives_are_seen_before_they_are_issued() -> None:
    seen: list[tuple[str, str]] = []
    tensor = torch.ones(4)
    with before_collectives(lambda name, group: seen.append((name, group.group_name))):
        dist.all_reduce(tensor)
        dist.broadcast(tensor, 0)
        dist.all_gather_into_tensor(torch.empty(4), tensor)
        dist.barrier()
    name = dist.group.WORLD.group_name
    assert seen == [("allreduce_", name), ("broadcast_", name), ("_allgather_base_", name), ("barrier", name)]
    assert torch.equal(tensor, torch.ones(4))


@pytest.mark.usefixtures("alone")
def test_functional_collectives_are_seen_too() -> None:
    seen: list[str] = []
    with before_collectives(lambda name, _group: seen.append(name)):
        result = funcol.all_reduce(torch.ones(2), "sum", dist.group.WORLD).wait()
    assert len(seen) == 1 and seen[0].startswith("allreduce")
    assert torch.equal(result, torch.ones(2))


@pytest.mark.usefixtures("alone")
def test_what_the_look_raises_keeps_the_collective_from_being_issued() -> None:
    def refuse(_name: str, _group: object) -> None:
        raise PermissionError("no")

    before = dist.group.WORLD._get_sequence_number_for_group()
    with before_collectives(refuse), pytest.raises(PermissionError, match="no"):
        dist.all_reduce(torch.ones(1))
    assert dist.group.WORLD._get_sequence_number_for_group() == before
    dist.all_reduce(torch.ones(1))
    assert dist.group.WORLD._get_sequence_number_for_group() == before + 1


@pytest.mark.usefixtures("alone")
def test_closed_leaves_no_kernel_and_sees_nothing() -> None:
    assert hooked() == []
    seen: list[str] = []
    for _ in range(3):
        with before_collectives(lambda name, _group: seen.append(name)):
            assert hooked() == OPERATORS
        assert hooked() == []
    dist.all_reduce(torch.ones(1))
    assert seen == []


def test_closed_also_when_the_body_raises() -> None:
    with pytest.raises(KeyError), before_collectives(lambda _name, _group: None):
        raise KeyError
    assert hooked() == []


@pytest.mark.usefixtures("alone")
def test_it_holds_no_tensor() -> None:
    import weakref

    with before_collectives(lambda _name, _group: None):
        tensor = torch.ones(3)
        reference = weakref.ref(tensor)
        dist.all_reduce(tensor)
        del tensor
        gc.collect()
        assert reference() is None
