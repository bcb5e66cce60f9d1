"""A look at every collective of this process before it is issued, whoever issues it: Python, DDP's C++ reducer, FSDP,
DTensor or compiled code.

Every C++ `ProcessGroup` method calls the dispatcher operator `c10d::<name>`. The key BackendSelect has no kernel there,
is in every thread's default set and sits above the backends: a Python kernel at it runs in any thread and mode.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist

Look = Callable[[str, Any], None]
"""Called with (operator name, process group) before the collective is issued; may block or raise."""


@contextmanager
def before_collectives(look: Look) -> Iterator[None]:
    """Call `look(name, group)` before each collective while open; raises RuntimeError where torch does not let us."""
    backend_select = torch._C.DispatchKey.BackendSelect
    library = torch.library.Library("c10d", "IMPL")
    try:
        for qualified in torch._C._dispatch_get_all_op_names():
            if not qualified.startswith("c10d::") or "." in qualified:
                continue
            name = qualified.removeprefix("c10d::")
            operator = getattr(torch.ops.c10d, name).default
            library.impl(name, _kernel(name, operator, backend_select, look), "BackendSelect", with_keyset=True)
        yield
    finally:
        library._destroy()


def _kernel(name: str, operator: Any, key: Any, look: Look) -> Callable[..., Any]:
    def kernel(keyset: Any, *args: Any, **kwargs: Any) -> Any:
        look(name, _group_of(args))
        return operator.redispatch(keyset.remove(key), *args, **kwargs)

    return kernel


def _group_of(args: tuple[Any, ...]) -> Any:
    for argument in args:
        if isinstance(argument, torch.ScriptObject) and "ProcessGroup" in str(argument._type()):
            return dist.ProcessGroup.unbox(argument)
    return None
