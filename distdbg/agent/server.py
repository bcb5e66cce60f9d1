"""Talks: one thread, one private socket, one client at a time."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

import msgspec
import zmq

from distdbg.agent.session import AgentSession
from distdbg.errors import UsageError
from distdbg.schema import message as m
from distdbg.wire.codec import MAX_MESSAGE_BYTES, MalformedMessage, decode_for_agent, encode

_TICK_S = 0.25
_UNGREETED_S = 60.0
_NUM_RECENT_CALLS = 256
OpenSession = Callable[[Callable[[m.ToClient], None]], AgentSession]


class Server:
    """Serves requests on `address` until `stop`, or, when injected, until its client has left.

    The client renews its lease by asking anything; when it has been silent for the lease, the rank is let go.
    `unpublish` is called before anybody can know that it leaves, so that no console comes to a socket that is closing.
    """

    def __init__(
        self, address: Path, open_session: OpenSession, *, leaves_after_client: bool, unpublish: Callable[[], None]
    ) -> None:
        self._address = address
        self._open_session = open_session
        self._unpublish = unpublish
        self._leaves_after_client = leaves_after_client
        self._context = zmq.Context(io_threads=1)
        self._socket = self._context.socket(zmq.ROUTER)
        self._configure()
        self._wake_in, self._wake_out = socket.socketpair()
        self._wake_in.setblocking(False)
        self._wake_out.setblocking(False)
        self._outbox: deque[m.ToClient] = deque(maxlen=10_000)
        self._stopping = threading.Event()
        self.num_waiting = 0
        """Threads that wait in `distdbg.breakpoint()` for a console."""
        self._client: bytes | None = None
        self._client_pid = 0
        self._heard = time.monotonic()
        self._lease_s = 10.0
        self._on_disconnect = "resume"
        self._recent: deque[tuple[bytes, int]] = deque(maxlen=_NUM_RECENT_CALLS)
        self._ticked = -1
        self.session: AgentSession | None = None

    def _configure(self) -> None:
        self._socket.setsockopt(zmq.LINGER, 500)
        self._socket.setsockopt(zmq.MAXMSGSIZE, MAX_MESSAGE_BYTES)
        self._socket.setsockopt(zmq.ROUTER_HANDOVER, 1)
        # Without heartbeats the client would not notice our death while a forked child holds our sockets open.
        self._socket.setsockopt(zmq.HEARTBEAT_IVL, 500)
        self._socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, 1500)
        if hasattr(zmq, "IPC_FILTER_UID"):
            self._socket.setsockopt(zmq.IPC_FILTER_UID, os.getuid())
        self._socket.bind(f"ipc://{self._address}")

    # ---- any thread ---------------------------------------------------------------------------------------------

    def send(self, message: m.ToClient) -> None:
        """Queue a message for the client and wake the agent thread; never blocks."""
        self._outbox.append(message)
        with contextlib.suppress(OSError):  # full: it is awake already; closed: nobody is there to wake
            self._wake_in.send(b"x")

    @property
    def is_attended(self) -> bool:
        """Whether a console is attached that has been welcomed: what it is told from now on comes after that."""
        return self._client is not None and self.session is not None

    @property
    def is_leaving(self) -> bool:
        """Whether it serves nobody any more."""
        return self._stopping.is_set()

    def stop(self) -> None:
        """Ask the agent thread to leave."""
        self._stopping.set()
        with contextlib.suppress(OSError):
            self._wake_in.send(b"x")

    # ---- the agent thread ---------------------------------------------------------------------------------------

    def serve(self) -> None:
        """The agent thread's loop. However it ends, no thread of the job stays parked."""
        try:
            poller = zmq.Poller()
            poller.register(self._socket, zmq.POLLIN)
            poller.register(self._wake_out, zmq.POLLIN)
            while not self._stopping.is_set():
                ready = dict(poller.poll(int(_TICK_S * 1000)))
                if self._wake_out.fileno() in ready:
                    with contextlib.suppress(BlockingIOError):
                        self._wake_out.recv(4096)
                while self._socket.poll(0):
                    self._receive()
                self._flush()
                self._tick()
        finally:
            self._unpublish()
            self._close_session()
            self._flush()
            if self._client is not None:
                self._send_to(self._client, m.Bye(reason="exited"))
            self._socket.close()
            self._context.term()
            self._wake_in.close()
            self._wake_out.close()
            self._address.unlink(missing_ok=True)

    def _receive(self) -> None:
        client, *frames = self._socket.recv_multipart()
        try:
            message = decode_for_agent(frames[-1])
        except (MalformedMessage, IndexError):
            return
        if isinstance(message, m.Permit):
            if client == self._client and self.session is not None:
                self.session.permit(message)
            return
        if (client, message.id) in self._recent:
            return
        self._recent.append((client, message.id))
        if isinstance(message.request, m.Hello):
            self._greet(client, message.id, message.request)
        elif isinstance(message.request, m.Detach) and self._client is None and self.session is None:
            self._detach(client, message.id)  # a console that gave up before it said Hello: another rank failed
        elif client != self._client or self.session is None:
            self._reply(client, message.id, _failure("UsageError", "Say Hello first: this console is not attached."))
        else:
            self._heard = time.monotonic()
            if isinstance(message.request, m.Detach):
                self._detach(client, message.id)
            else:
                self.session.handle(message)

    def _greet(self, client: bytes, call_id: int, hello: m.Hello) -> None:
        if hello.protocol != m.PROTOCOL:
            text = f"The agent speaks protocol {m.PROTOCOL}, this console {hello.protocol}: install the same distdbg."
            self._reply(client, call_id, _failure("AttachError", text))
        elif self._client not in (None, client) and self._is_client_alive():
            text = f"Another console is attached to this rank (pid {self._client_pid}). Leave it with quit first."
            self._reply(client, call_id, _failure("AttachError", text))
        else:
            self._outbox.clear()  # notices for a former client
            try:
                if self.session is None:
                    self.session = self._open_session(self.send)
                elif client != self._client:
                    self._forget_rules(self.session)
                welcome = self.session.welcome()
            except Exception as error:
                self._close_session()
                self._reply(client, call_id, _failure("AttachError", f"{type(error).__name__}: {error}"))
                return
            self._client, self._client_pid = client, hello.client_pid
            self._lease_s, self._on_disconnect = hello.lease_s, hello.on_disconnect
            self._heard = time.monotonic()
            welcome = msgspec.structs.replace(welcome, is_about_to_stop=self.num_waiting > 0)
            self._reply(client, call_id, welcome)

    @staticmethod
    def _forget_rules(session: AgentSession) -> None:
        """A console takes over from one that is gone: it gets the stop, not breakpoints that it cannot see."""
        for rule in session.control.engine.copies:
            session.control.remove(rule)

    def _detach(self, client: bytes, call_id: int) -> None:
        detached = self._close_session(is_together=True) or m.Detached()
        self._client = None
        if self._leaves_after_client:
            self._leave()
        self._reply(client, call_id, detached)

    def _leave(self) -> None:
        self._unpublish()
        self._address.unlink(missing_ok=True)  # before the reply: who reads that finds nothing left
        self._stopping.set()

    def _close_session(self, *, is_together: bool = False) -> m.Detached | None:
        session, self.session = self.session, None
        return session.close(is_together=is_together) if session is not None else None

    def _is_client_alive(self) -> bool:
        if time.monotonic() - self._heard > 3.0:
            return False
        return _is_running(self._client_pid)

    def _tick(self) -> None:
        if self.session is None:
            if self._leaves_after_client and time.monotonic() - self._heard > _UNGREETED_S:
                self._leave()  # the console that brought it here died on the way
            return
        self.session.timeouts.extend()
        if self._client is not None and time.monotonic() - self._heard > self._lease_s:
            # A stop outlives its client for the lease and no longer. `stay` keeps it for the next console.
            self._client = None
            if self._on_disconnect == "resume":
                self._close_session()
                if self._leaves_after_client:
                    self._leave()
                return
        iteration = self.session.control.engine.iteration
        if iteration != self._ticked:
            self._ticked = iteration
            self._outbox.append(m.Ticked(iteration=iteration))
            self._flush()

    def _flush(self) -> None:
        while self._outbox:
            message = self._outbox.popleft()
            if self._client is not None:
                self._send_to(self._client, message)

    def _reply(self, client: bytes, call_id: int, result: m.AnyReply | m.Failure) -> None:
        self._send_to(client, m.Answer(id=call_id, result=result))

    def _send_to(self, client: bytes, message: m.ToClient) -> None:
        frame = encode(message)
        if len(frame) > MAX_MESSAGE_BYTES and isinstance(message, m.Answer):
            failure = _failure(UsageError.__name__, f"The answer is too large ({len(frame):,} bytes): ask for less.")
            frame = encode(m.Answer(id=message.id, result=failure))
        with contextlib.suppress(zmq.ZMQError):  # a client that does not read: it will be told when it asks again
            self._socket.send_multipart([client, frame], zmq.DONTWAIT)


def _is_running(pid: int) -> bool:
    """Whether there is a process `pid` that is no zombie; True where there is no /proc to tell."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return not os.path.isdir("/proc/self")


def _failure(error: str, message: str) -> m.Failure:
    return m.Failure(error=error, message=message)
