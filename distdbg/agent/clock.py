"""The logical clock: how many collectives this rank has issued on each group; equal on all members at one point."""

from __future__ import annotations

from typing import Any

from torch.distributed import distributed_c10d

from distdbg.schema.stop import Clock


def read_clock() -> Clock:
    """Group -> sequence number. Reads C++ counters: works while the training thread is blocked in a collective."""
    clock: Clock = {}
    groups: list[Any] = list(distributed_c10d._world.pg_map)
    for group in groups:
        ranks = distributed_c10d._world.pg_group_ranks.get(group)
        if not ranks:
            continue
        # Names of groups made on only some ranks may repeat; with their members they do not.
        key = f"{group.group_name}:{min(ranks)}-{max(ranks)}/{len(ranks)}"
        try:
            clock[key] = int(group._get_sequence_number_for_group())
        except RuntimeError:  # a backend without sequence numbers: this group just does not tell the time
            continue
    return clock
