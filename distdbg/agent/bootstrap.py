"""How an agent comes up in a rank and goes away again: injected, started by the launcher's environment, or by code."""

from __future__ import annotations

import atexit
import os
import sys
import threading
import time
from pathlib import Path
from types import FrameType

from distdbg.errors import NotDistributed
from distdbg.wire.runtime import Record, runtime_dir, write_record

_LEAVE_S = 5.0
_lock = threading.Lock()
_agent: _Agent | None = None


class _Agent:
    """The running agent: its server, its thread and its record in the runtime directory."""

    def __init__(self, directory: Path, is_prepared: bool) -> None:
        # torch is there already; what we bring along is imported only now, on a thread that training does not wait for
        import torch.distributed as dist

        from distdbg.agent.server import Server
        from distdbg.agent.session import AgentSession
        from distdbg.probes.model import ModelIndex

        self.pid = os.getpid()
        self.socket = directory / f"{self.pid}.sock"
        self.socket.unlink(missing_ok=True)  # of a dead process with our pid
        model = ModelIndex()
        rank = dist.get_rank()
        self.server = Server(
            self.socket,
            lambda send: AgentSession(model, rank, is_prepared, send),
            leaves_after_client=not is_prepared,
            unpublish=lambda: (directory / f"{self.pid}.json").unlink(missing_ok=True),
        )
        record = Record(
            pid=self.pid,
            rank=rank,
            world_size=dist.get_world_size(),
            run_id=os.environ.get("TORCHELASTIC_RUN_ID", ""),
            socket=str(self.socket),
            started=time.time(),
            is_prepared=is_prepared,
        )
        self.thread = threading.current_thread()
        write_record(directory, record)
        atexit.register(self.leave)

    def run_in_background(self) -> None:
        """Serve on a thread of its own."""
        self.thread = threading.Thread(target=self.run, name="distdbg-agent", daemon=True)
        self.thread.start()

    def run(self) -> None:
        """Serve on this thread until the agent is told, or has reason, to leave."""
        global _agent
        try:
            self.server.serve()
        finally:
            with _lock:
                _agent = None
            if threading.main_thread().is_alive() and not sys.is_finalizing():
                atexit.unregister(self.leave)

    def leave(self) -> None:
        """End the agent; waits a moment, so that the client hears of it. Does nothing in a forked child."""
        if os.getpid() == self.pid:
            self.server.stop()
            self.thread.join(timeout=1.0)


def load() -> None:
    """Import all that an agent is made of; a process that cannot have one stays light."""
    if _is_distributed():
        import distdbg.agent.server  # noqa: F401


def start() -> None:
    """Start this rank's agent, if it has none; raises NotDistributed where there is no process group yet."""
    agent = _bring_up(runtime_dir(), is_prepared=True)
    if agent is not None:
        agent.run_in_background()


def _is_distributed() -> bool:
    distributed = sys.modules.get("torch.distributed")
    return distributed is not None and distributed.is_available() and distributed.is_initialized()


def serve_injected(directory: str) -> None:
    """What the injected lines call on a thread of their own, which becomes the agent's. Never raises.

    One thread from the first import on: each thread that allocates has a heap of its own in the rank. Leaves a record
    of why not when it fails.
    """
    try:
        agent = _bring_up(Path(directory), is_prepared=False)
        if agent is not None:
            agent.run()
    except BaseException as error:  # the thread is a guest in the job: nothing may come out of it
        report_failure(directory, error)


def _bring_up(directory: Path, *, is_prepared: bool) -> _Agent | None:
    """The rank's new agent; None when it has one."""
    global _agent
    former = _agent
    if former is not None and former.pid == os.getpid() and former.server.is_leaving:
        former.thread.join(timeout=_LEAVE_S)  # its console has just left, and the next is here
    with _lock:
        if _agent is not None and _agent.pid == os.getpid():
            return None
        if not _is_distributed():
            raise NotDistributed(f"pid {os.getpid()} has no torch.distributed process group (yet).")
        _agent = _Agent(directory, is_prepared)
        return _agent


def report_failure(directory: str, error: BaseException) -> None:
    """Publish that this process cannot have an agent, for the console that injected it."""
    record = Record(
        pid=os.getpid(), rank=-1, world_size=0, run_id="", socket="", started=time.time(), is_prepared=False,
        error=f"{type(error).__name__}: {error}",
    )  # fmt: skip
    write_record(Path(directory), record)


def is_attached() -> bool:
    """Whether a console is attached to this rank."""
    agent = _agent
    return agent is not None and agent.server.is_attended


def call_breakpoint(frame: FrameType | None = None) -> None:
    """Park the calling thread, as `distdbg.breakpoint()` does; waits for a console when none is attached."""
    here = frame or sys._getframe(1)
    agent = _agent
    if agent is None:
        return
    agent.server.num_waiting += 1
    try:
        while agent.thread.is_alive() and not agent.server.is_attended:
            time.sleep(0.02)  # nobody to wait on: a console comes when its user types
    finally:
        agent.server.num_waiting -= 1
    session = agent.server.session
    if session is not None:
        session.call_breakpoint(here)
