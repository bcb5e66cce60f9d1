"""One socket per rank and the thread that serves them all."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping

import zmq

from distdbg.schema.message import ToAgent, ToClient
from distdbg.wire.codec import MAX_MESSAGE_BYTES, MalformedMessage, decode_for_client, encode
from distdbg.wire.runtime import Record

_PROBE_S = 0.25


class Connection:
    """Carries messages to and from the agents of a job.

    `on_message(rank, message)`, `on_exit(rank)` and `on_tick(now)` run on the connection's thread. A rank's exit is
    known through its pidfd at once; where the kernel has none, within a quarter of a second.
    """

    def __init__(
        self,
        records: Mapping[int, Record],
        on_message: Callable[[int, ToClient], None],
        on_exit: Callable[[int], None],
        on_tick: Callable[[float], None],
    ) -> None:
        self._on_message, self._on_exit, self._on_tick = on_message, on_exit, on_tick
        self._pids = {rank: record.pid for rank, record in records.items()}
        self.heard_at = {rank: time.monotonic() for rank in records}
        self._context = zmq.Context(io_threads=1)
        self._sockets = {rank: self._connect(record.socket) for rank, record in records.items()}
        self._exit_fds: dict[int, int] = {}
        for rank, pid in self._pids.items():
            with contextlib.suppress(OSError, AttributeError):
                self._exit_fds[os.pidfd_open(pid)] = rank
        self._wake_in, self._wake_out = socket.socketpair()
        self._wake_in.setblocking(False)
        self._wake_out.setblocking(False)
        self._outbox: deque[tuple[int, ToAgent]] = deque()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="distdbg-connection", daemon=True)

    def open(self) -> None:
        """Start to send and receive."""
        self._thread.start()

    def close(self) -> None:
        """Send what is queued and leave."""
        self._closing.set()
        self._wake()
        if self._thread.is_alive():
            self._thread.join(timeout=3.0)

    def send(self, rank: int, message: ToAgent) -> None:
        """Queue a message; any thread, never blocks."""
        self._outbox.append((rank, message))
        self._wake()

    def _wake(self) -> None:
        with contextlib.suppress(OSError):
            self._wake_in.send(b"x")

    def _connect(self, address: str) -> zmq.Socket[bytes]:
        dealer = self._context.socket(zmq.DEALER)
        dealer.setsockopt(zmq.LINGER, 500)
        dealer.setsockopt(zmq.IDENTITY, f"{os.getpid()}-{time.monotonic_ns()}".encode())
        dealer.setsockopt(zmq.MAXMSGSIZE, MAX_MESSAGE_BYTES)
        dealer.setsockopt(zmq.HEARTBEAT_IVL, 500)
        dealer.setsockopt(zmq.HEARTBEAT_TIMEOUT, 1500)
        dealer.setsockopt(zmq.RECONNECT_IVL, 50)
        dealer.connect(f"ipc://{address}")
        return dealer

    def _run(self) -> None:
        poller = zmq.Poller()
        poller.register(self._wake_out, zmq.POLLIN)
        for dealer in self._sockets.values():
            poller.register(dealer, zmq.POLLIN)
        for fd in self._exit_fds:
            poller.register(fd, zmq.POLLIN)
        try:
            while not self._closing.is_set():
                ready = dict(poller.poll(int(_PROBE_S * 1000)))
                with contextlib.suppress(BlockingIOError):
                    self._wake_out.recv(4096)
                self._send_queued()
                for rank, dealer in self._sockets.items():
                    if dealer in ready:
                        self._receive(rank, dealer)
                for fd in [fd for fd in self._exit_fds if fd in ready]:
                    poller.unregister(fd)
                    os.close(fd)
                    rank = self._exit_fds.pop(fd)
                    if self._sockets[rank].poll(50):  # its last words may still be on the way
                        self._receive(rank, self._sockets[rank])
                    self._on_exit(rank)
                self._look_for_exits()
                self._on_tick(time.monotonic())
            self._send_queued()
        finally:
            for dealer in self._sockets.values():
                dealer.close()
            for fd in self._exit_fds:
                os.close(fd)
            self._context.term()
            self._wake_in.close()
            self._wake_out.close()

    def _send_queued(self) -> None:
        while self._outbox:
            rank, message = self._outbox.popleft()
            with contextlib.suppress(zmq.ZMQError):  # full: the rank does not read; the call runs into its deadline
                self._sockets[rank].send(encode(message), zmq.DONTWAIT)

    def _receive(self, rank: int, dealer: zmq.Socket[bytes]) -> None:
        while True:
            try:
                frame = dealer.recv(zmq.DONTWAIT)
            except zmq.ZMQError:
                return
            self.heard_at[rank] = time.monotonic()
            with contextlib.suppress(MalformedMessage):
                self._on_message(rank, decode_for_client(frame))

    def _look_for_exits(self) -> None:
        watched = set(self._exit_fds.values())
        for rank, pid in list(self._pids.items()):
            if rank not in watched and not os.path.exists(f"/proc/{pid}") and os.path.isdir("/proc/self"):
                del self._pids[rank]
                self._on_exit(rank)
