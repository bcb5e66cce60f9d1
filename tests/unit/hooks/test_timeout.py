"""Limits of process groups: raised while open, their own again when closed."""

from __future__ import annotations

import gc
import weakref
from datetime import timedelta

import pytest
import torch
import torch.distributed as dist
from torch.distributed import distributed_c10d

from distdbg.hooks.timeout import raised_timeouts

DAY = timedelta(days=1)
pytestmark = pytest.mark.usefixtures("alone")


def limit(group: dist.ProcessGroup) -> timedelta:
    return group._get_backend(torch.device("cpu")).options._timeout


def test_raised_while_open_and_restored() -> None:
    world = dist.group.WORLD
    other = dist.new_group([0], timeout=timedelta(seconds=77))
    own = limit(world)
    with raised_timeouts() as timeouts:
        assert (limit(world), limit(other)) == (DAY, DAY)
        assert timeouts.original_s == {world.group_name: own.total_seconds(), other.group_name: 77.0}
    assert (limit(world), limit(other)) == (own, timedelta(seconds=77))


def test_restored_when_the_body_raises() -> None:
    own = limit(dist.group.WORLD)
    with pytest.raises(KeyError), raised_timeouts():
        raise KeyError
    assert limit(dist.group.WORLD) == own


def test_a_group_made_later_is_raised_by_extend_and_restored() -> None:
    with raised_timeouts() as timeouts:
        late = dist.new_group([0], timeout=timedelta(seconds=55))
        assert limit(late) == timedelta(seconds=55)
        timeouts.extend()
        timeouts.extend()
        assert limit(late) == DAY
        assert timeouts.original_s[late.group_name] == 55.0
    assert limit(late) == timedelta(seconds=55)


def test_a_group_that_is_destroyed_meanwhile_is_no_error() -> None:
    own = limit(dist.group.WORLD)
    gone = dist.new_group([0])
    with raised_timeouts() as timeouts:
        dist.destroy_process_group(gone)
        timeouts.extend()
    assert limit(dist.group.WORLD) == own


def test_a_group_in_the_place_of_a_destroyed_one_is_raised() -> None:
    gone = dist.new_group([0])
    with raised_timeouts() as timeouts:
        dist.destroy_process_group(gone)
        late = dist.new_group([0], timeout=timedelta(seconds=55))
        timeouts.extend()
        assert limit(late) == DAY
    assert limit(late) == timedelta(seconds=55)


def test_the_store_is_raised_and_restored() -> None:
    store = distributed_c10d._get_default_store()
    own = store.timeout
    with raised_timeouts():
        assert store.timeout == DAY
    assert store.timeout == own


def test_restoring_twice_changes_nothing() -> None:
    own = limit(dist.group.WORLD)
    with raised_timeouts() as timeouts:
        timeouts.restore()
        assert limit(dist.group.WORLD) == own
        dist.group.WORLD._get_backend(torch.device("cpu"))._set_default_timeout(timedelta(seconds=5))
    assert limit(dist.group.WORLD) == timedelta(seconds=5)


def test_a_destroyed_group_does_not_live_on_through_us() -> None:
    gone = dist.new_group([0])
    with raised_timeouts() as timeouts:
        reference = weakref.ref(gone._get_backend(torch.device("cpu")))
        dist.destroy_process_group(gone)
        del gone
        timeouts.extend()
        gc.collect()
        assert reference() is None
