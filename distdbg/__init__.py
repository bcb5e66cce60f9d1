"""distdbg: one debugging console over all ranks of a live torch.distributed job."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from distdbg.client.session import Session

__all__ = ["__version__", "breakpoint", "connect", "listen"]
__version__ = "0.1.0"


def listen() -> None:
    """Start the agent in this rank, so that a console attaches at once; all ranks should call it.

    Before `init_process_group` it waits for that call. Never raises: a failure is one line on stderr.
    """
    try:
        import torch.distributed.distributed_c10d as c10d

        if c10d.is_initialized():
            _start_prepared()
        else:
            from distdbg.hooks.group import on_group_ready

            on_group_ready(c10d, _start_prepared)
    except Exception as error:
        _complain("not listening", error)


def breakpoint() -> None:
    """Stop here, as pdb's does: until a console says to go on. Where none is attached it waits for one.

    All ranks should call it. Before `init_process_group` there is nothing to attach to, and it returns.
    """
    try:
        import torch.distributed as dist

        if not dist.is_initialized():
            print("distdbg.breakpoint(): passed, there is no process group yet.", file=sys.stderr)  # noqa: T201
            return
        from distdbg.agent import bootstrap

        frame = sys._getframe(1)
        bootstrap.start()
        if bootstrap.is_attached():
            bootstrap.call_breakpoint(frame)
            return

        from distdbg.wire.claim import claim

        with claim(f"breakpoint {os.environ.get('MASTER_PORT', '')}") as is_first:
            if is_first:  # of the job's ranks on this host: one line is enough
                where = f"{frame.f_code.co_filename}:{frame.f_lineno}"
                print(f"distdbg: waiting at {where}; python -m distdbg attach --pid {os.getpid()}", file=sys.stderr)  # noqa: T201
            bootstrap.call_breakpoint(frame)
    except Exception as error:
        _complain("breakpoint() passed", error)


def connect(*args: Any, **kwargs: Any) -> Session:
    """A session over all ranks of a job, for scripts: see `distdbg.client.attach.attach`."""
    from distdbg.client.attach import attach

    return attach(*args, **kwargs)


def _start_prepared() -> None:
    """Start the agent of a rank that asked for one."""
    try:
        from distdbg.agent import bootstrap

        bootstrap.start()
    except Exception as error:
        _complain("not listening", error)


def _complain(what: str, error: Exception) -> None:
    """One line: a fault of the debugger must not end the training."""
    print(f"distdbg: {what}: {type(error).__name__}: {error}", file=sys.stderr)  # noqa: T201
