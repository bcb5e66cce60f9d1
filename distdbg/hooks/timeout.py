"""Process groups give up after a while; a stopped rank must not make them. Raised while open, restored when closed."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed import distributed_c10d

_RAISED = timedelta(days=1)


class Timeouts:
    """The limits of every process group of this rank, raised to a day.

    What is in flight already keeps its old limit. A group made later starts at torch's default again: call `extend`
    now and then. `original_s` has the groups' own limits in seconds, by name.
    """

    def __init__(self) -> None:
        self._saved: list[tuple[weakref.ref[Any], list[tuple[Any, timedelta]]]] = []
        self._store_timeout: timedelta | None = None
        self.original_s: dict[str, float] = {}

    def extend(self) -> None:
        """Raise the limits of groups that are not raised yet."""
        groups = list(distributed_c10d._world.pg_map)
        # A group that was destroyed must not live on through its backend here.
        self._saved = [(reference, backends) for reference, backends in self._saved if reference() in groups]
        known = {id(reference()) for reference, _ in self._saved}
        for group in groups:
            if id(group) in known:
                continue
            backends = [(b, b.options._timeout) for b in _backends_of(group) if hasattr(b, "_set_default_timeout")]
            if backends:
                self.original_s[group.group_name] = backends[0][1].total_seconds()
            self._saved.append((weakref.ref(group), backends))
            for backend, _ in backends:
                backend._set_default_timeout(_RAISED)
        if self._store_timeout is None:
            with contextlib.suppress(Exception):  # a store of the user's own need not have a timeout
                store: Any = distributed_c10d._get_default_store()
                self._store_timeout = store.timeout
                store.set_timeout(_RAISED)

    def restore(self) -> None:
        """Give every group that still exists its own limit back."""
        for reference, backends in self._saved:
            group = reference()
            if group is not None and group in distributed_c10d._world.pg_map:
                for backend, limit in backends:
                    backend._set_default_timeout(limit)
        self._saved.clear()
        if self._store_timeout is not None:
            with contextlib.suppress(Exception):
                distributed_c10d._get_default_store().set_timeout(self._store_timeout)
            self._store_timeout = None


@contextlib.contextmanager
def raised_timeouts() -> Iterator[Timeouts]:
    """Timeouts raised while open."""
    timeouts = Timeouts()
    try:
        timeouts.extend()
        yield timeouts
    finally:
        timeouts.restore()


def _backends_of(group: dist.ProcessGroup) -> list[Any]:
    found: list[Any] = []
    for device in group._device_types:
        with contextlib.suppress(RuntimeError):
            backend = group._get_backend(torch.device(device))
            if not any(backend is other for other in found):
                found.append(backend)
    return found
