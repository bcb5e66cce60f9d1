"""A process group that never communicates, as any rank of any world."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch.distributed as dist
from torch.testing._internal.distributed.fake_pg import FakeStore


@pytest.fixture
def be_rank() -> Iterator[Callable[[int, int], None]]:
    """Call it with (rank, world size) to become that rank of a fake world; again to become another."""

    def leave() -> None:
        if dist.is_initialized():
            dist.destroy_process_group()

    def become(rank: int, world_size: int) -> None:
        leave()
        dist.init_process_group("fake", rank=rank, world_size=world_size, store=FakeStore())

    yield become
    leave()
