"""Starts the agent in a rank that was launched with DISTDBG=1 and this folder on PYTHONPATH.

Every interpreter of the job runs this, torchrun and DataLoader workers too: it looks at nothing and imports nothing
until torch.distributed is imported, and starts nothing until the process has a process group.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False  # importing typing would cost every interpreter of the job more than all of this
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any

_HERE = os.path.dirname(os.path.abspath(__file__))
_WAITS_FOR = "torch.distributed.distributed_c10d"


class _Finder:
    """First on sys.meta_path until the awaited module is imported; the other finders do the work."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name != _WAITS_FOR:
            return None
        sys.meta_path.remove(self)
        for finder in sys.meta_path:
            spec = finder.find_spec(name, path, target)
            if spec is not None:
                _call_after_import(spec.loader)
                return spec
        return None


def _call_after_import(loader: Any) -> None:
    execute = loader.exec_module

    def exec_module(module: ModuleType) -> None:
        del loader.exec_module  # the class's own again
        execute(module)
        try:
            _arm(module)
        except Exception as error:
            # The training never pays for a fault of ours.
            print(f"distdbg: not ready in pid {os.getpid()}: {type(error).__name__}: {error}", file=sys.stderr)  # noqa: T201

    loader.exec_module = exec_module


def _arm(module: ModuleType) -> None:
    try:
        from distdbg.hooks.group import on_group_ready
    except ModuleNotFoundError as error:
        if error.name != "distdbg":
            raise
        # Started from a checkout that is not installed: it goes last, where it can hide nothing of the job's.
        sys.path.append(os.path.dirname(os.path.dirname(_HERE)))
        from distdbg.hooks.group import on_group_ready

    from distdbg import _start_prepared

    on_group_ready(module, _start_prepared)


def _run_next_sitecustomize() -> None:
    """The user's own sitecustomize further down the path, which this one hides."""
    sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry) != _HERE]
    ours = sys.modules.pop(__name__, None)
    try:
        import sitecustomize  # type: ignore[import-not-found]  # noqa: F401
    except ModuleNotFoundError as error:
        if error.name != "sitecustomize":
            raise
        if ours is not None:
            sys.modules[__name__] = ours


if os.environ.get("DISTDBG", "") not in ("", "0"):
    sys.meta_path.insert(0, _Finder())
if __name__ == "sitecustomize":
    _run_next_sitecustomize()
