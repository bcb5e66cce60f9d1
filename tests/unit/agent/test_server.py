"""The agent's socket, with a console's socket in the same process and a session that only remembers."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import zmq

from distdbg.agent.server import Server
from distdbg.schema import message as m
from distdbg.wire.codec import MAX_MESSAGE_BYTES, decode_for_client, encode

LONG_MS = 10_000
WELCOME = m.Welcome(
    rank=0, world_size=1, pid=1, hostname="h", script="s", backend="gloo", torch_version="2", python_version="3",
    device="cpu", is_prepared=True,
)  # fmt: skip


class Session:
    """Stands in for AgentSession."""

    def __init__(self, send: Callable[[m.ToClient], None]) -> None:
        self.send = send
        self.handled: list[m.Call] = []
        self.permits: list[m.Permit] = []
        self.is_closed = False
        self.timeouts = SimpleNamespace(extend=lambda: None)
        self.removed: list[int] = []
        engine = SimpleNamespace(iteration=0, copies={1: None, 2: None})
        self.control = SimpleNamespace(engine=engine, remove=self.removed.append)
        self.reply: m.AnyReply = m.Done()

    def welcome(self) -> m.Welcome:
        return WELCOME

    def handle(self, call: m.Call) -> None:
        self.handled.append(call)
        self.send(m.Answer(id=call.id, result=self.reply))

    def permit(self, permit: m.Permit) -> None:
        self.permits.append(permit)

    def close(self, *, is_together: bool = False) -> m.Detached:
        self.is_closed = True
        return m.Detached(num_hooks=3)


class Agent:
    def __init__(self, path: Path, *, is_prepared: bool) -> None:
        self.sessions: list[Session] = []
        self.unpublished = 0
        self.error: Exception | None = None
        self.path = path
        self.server = Server(path, self._open, leaves_after_client=not is_prepared, unpublish=self._unpublish)
        self.thread = threading.Thread(target=self.server.serve)
        self.thread.start()

    def _open(self, send: Callable[[m.ToClient], None]) -> Any:
        if self.error is not None:
            raise self.error
        self.sessions.append(Session(send))
        return self.sessions[-1]

    def _unpublish(self) -> None:
        self.unpublished += 1

    def join(self) -> None:
        self.thread.join(10)
        assert not self.thread.is_alive()


class Console:
    def __init__(self, path: Path) -> None:
        self.context = zmq.Context()
        self.socket = self.context.socket(zmq.DEALER)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.connect(f"ipc://{path}")
        self.id = 0

    def send(self, request: m.AnyRequest, call_id: int | None = None) -> int:
        self.id = self.id + 1 if call_id is None else call_id
        self.socket.send(encode(m.Call(id=self.id, request=request)))
        return self.id

    def receive(self) -> Any:
        assert self.socket.poll(LONG_MS), "no word from the agent"
        return decode_for_client(self.socket.recv())

    def ask(self, request: m.AnyRequest) -> Any:
        call_id = self.send(request)
        while not isinstance(message := self.receive(), m.Answer) or message.id != call_id:
            pass
        return message.result

    def hello(self, **fields: Any) -> Any:
        return self.ask(m.Hello(**{"client_pid": os.getpid(), **fields}))

    def close(self) -> None:
        self.socket.close()
        self.context.term()


@pytest.fixture
def agents(tmp_path: Path) -> Iterator[Callable[..., Agent]]:
    started: list[Agent] = []

    def start(*, is_prepared: bool = True) -> Agent:
        started.append(Agent(tmp_path / "a.sock", is_prepared=is_prepared))
        return started[-1]

    yield start
    for agent in started:
        agent.server.stop()
        agent.join()
        assert not agent.path.exists()
        assert all(session.is_closed for session in agent.sessions)


@pytest.fixture
def agent(agents: Callable[..., Agent]) -> Agent:
    return agents()


@pytest.fixture
def consoles(agent: Agent) -> Iterator[Callable[[], Console]]:
    opened: list[Console] = []

    def connect() -> Console:
        opened.append(Console(agent.path))
        return opened[-1]

    yield connect
    for console in opened:
        console.close()


@pytest.fixture
def console(consoles: Callable[[], Console]) -> Console:
    return consoles()


def test_hello_is_welcomed_and_calls_are_carried_out(agent: Agent, console: Console) -> None:
    assert console.hello() == WELCOME
    assert console.ask(m.Ping()) == m.Done()
    assert [type(call.request) for call in agent.sessions[0].handled] == [m.Ping]


def test_without_hello_nothing_is_done(agent: Agent, console: Console) -> None:
    failure = console.ask(m.Ping())
    assert (failure.error, failure.message) == ("UsageError", "Say Hello first: this console is not attached.")
    assert agent.sessions == []


def test_another_protocol_is_refused(agent: Agent, console: Console) -> None:
    failure = console.hello(protocol=99)
    assert failure.message == "The agent speaks protocol 1, this console 99: install the same distdbg."
    assert agent.sessions == []


def test_a_second_console_is_refused_while_the_first_lives(console: Console, consoles: Callable[[], Console]) -> None:
    console.hello()
    second = consoles()
    failure = second.hello()
    expected = f"Another console is attached to this rank (pid {os.getpid()}). Leave it with quit first."
    assert (failure.error, failure.message) == ("AttachError", expected)
    assert second.ask(m.Ping()).error == "UsageError"
    assert console.ask(m.Ping()) == m.Done()


def test_a_console_takes_over_from_a_dead_one_and_its_rules_go(
    agent: Agent, console: Console, consoles: Callable[[], Console]
) -> None:
    console.hello(client_pid=2**22 + 1)
    assert consoles().hello() == WELCOME
    assert len(agent.sessions) == 1
    assert agent.sessions[0].removed == [1, 2]
    assert console.ask(m.Ping()).error == "UsageError"


def test_a_call_that_comes_twice_runs_once(agent: Agent, console: Console) -> None:
    console.hello()
    console.send(m.Resume(), 7)
    console.send(m.Resume(), 7)
    console.ask(m.Ping())
    assert [call.id for call in agent.sessions[0].handled] == [7, 8]


def test_garbage_is_dropped_and_the_next_call_is_served(agent: Agent, console: Console) -> None:
    console.hello()
    for frame in (b"", b"\xff" * 100, b"\x91" * 100_000, b"\x82\xa4type\xa4Call\xa2id\xa1\xff"):
        console.socket.send(frame)
    console.socket.send(encode(m.Call(id=50, request=m.Evaluate(text="x"))).replace(b"\xa1x", b"\xa1\xff"))
    assert console.ask(m.Ping()) == m.Done()
    assert len(agent.sessions[0].handled) == 1


def test_an_answer_that_is_too_large_is_a_failure(agent: Agent, console: Console) -> None:
    console.hello()
    agent.sessions[0].reply = m.Evaluated(repr="x" * MAX_MESSAGE_BYTES)
    failure = console.ask(m.Ping())
    assert failure.error == "UsageError"
    assert failure.message.startswith("The answer is too large (4,194,") and failure.message.endswith("ask for less.")
    agent.sessions[0].reply = m.Done()
    assert console.ask(m.Ping()) == m.Done()


def test_permits_reach_the_session_of_their_console_only(
    agent: Agent, console: Console, consoles: Callable[[], Console]
) -> None:
    console.hello()
    other, permit = consoles(), m.Permit(id=1, is_granted=True)
    other.socket.send(encode(permit))
    assert other.ask(m.Ping()).error == "UsageError"
    assert agent.sessions[0].permits == []
    console.socket.send(encode(permit))
    console.ask(m.Ping())
    assert agent.sessions[0].permits == [permit]


def test_notices_go_out_while_nobody_asks(agent: Agent, console: Console) -> None:
    console.hello()
    agent.server.send(m.Warned(text="look"))
    while not isinstance(message := console.receive(), m.Warned):
        pass
    assert message.text == "look"


def test_iterations_are_told_once_each(agent: Agent, console: Console) -> None:
    console.hello()
    agent.sessions[0].control.engine.iteration = 12
    while (message := console.receive()) != m.Ticked(iteration=12):
        assert isinstance(message, m.Ticked)


def test_the_lease_lets_the_rank_go(agent: Agent, console: Console) -> None:
    console.hello(lease_s=0.01)
    while not agent.sessions[0].is_closed:
        agent.thread.join(0.02)
        assert agent.thread.is_alive()
    assert console.hello() == WELCOME  # a prepared agent is there for the next
    assert len(agent.sessions) == 2


def test_stay_keeps_the_stop_for_the_next_console(
    agent: Agent, console: Console, consoles: Callable[[], Console]
) -> None:
    console.hello(lease_s=0.01, on_disconnect="stay")
    while agent.server._client is not None:
        agent.thread.join(0.02)
        assert agent.thread.is_alive()
    assert consoles().hello() == WELCOME
    assert len(agent.sessions) == 1 and not agent.sessions[0].is_closed


def test_a_prepared_agent_stays_after_detach(agent: Agent, console: Console) -> None:
    console.hello()
    assert console.ask(m.Detach()) == m.Detached(num_hooks=3)
    assert agent.sessions[0].is_closed and agent.thread.is_alive()
    assert console.hello() == WELCOME
    assert agent.unpublished == 0


def test_an_injected_agent_leaves_after_detach(agents: Callable[..., Agent]) -> None:
    agent = agents(is_prepared=False)
    console = Console(agent.path)
    console.hello()
    assert console.ask(m.Detach()) == m.Detached(num_hooks=3)
    agent.join()
    assert agent.unpublished and agent.server.is_leaving
    console.close()


def test_an_injected_agent_leaves_with_its_lease(agents: Callable[..., Agent]) -> None:
    agent = agents(is_prepared=False)
    console = Console(agent.path)
    console.hello(lease_s=0.01)
    agent.join()
    assert agent.sessions[0].is_closed
    console.close()


def test_stopping_says_goodbye_and_closes(agent: Agent, console: Console) -> None:
    console.hello()
    agent.server.stop()
    while not isinstance(message := console.receive(), m.Bye):
        pass
    agent.join()
    assert message.reason == "exited"
    agent.server.send(m.Warned(text="after the end"))  # no error


def test_a_session_that_cannot_open_is_a_failure_and_the_next_may(agent: Agent, console: Console) -> None:
    agent.error = RuntimeError("no model")
    failure = console.hello()
    assert (failure.error, failure.message) == ("AttachError", "RuntimeError: no model")
    agent.error = None
    assert console.hello() == WELCOME
