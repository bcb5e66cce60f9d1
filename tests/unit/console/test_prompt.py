"""The prompt on a terminal made of pipes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from prompt_toolkit.application import create_app_session
from prompt_toolkit.history import InMemoryHistory
from prompt_toolkit.input import PipeInput, create_pipe_input
from prompt_toolkit.output import DummyOutput

from distdbg.client.state import StopAnnounced
from distdbg.console.console import Console
from distdbg.console.prompt import history_path, make_prompt, open_history, run_prompt
from distdbg.console.toolbar import Toolbar
from distdbg.schema import message as m


@pytest.fixture
def keys() -> Iterator[PipeInput]:
    with create_pipe_input() as pipe, create_app_session(input=pipe, output=DummyOutput()):
        yield pipe


@pytest.fixture
def type_keys(console: Console, keys: PipeInput) -> Callable[[str], None]:
    def run(text: str) -> None:
        keys.send_text(text)
        run_prompt(console, make_prompt(console, InMemoryHistory(), input=keys, output=DummyOutput()))

    return run


def test_lines_until_ctrl_d(console: Console, type_keys: Any, session: Any) -> None:
    type_keys("focus 1\rbreak emb\r\x04")
    assert console.history == ["focus 1", "break emb"]
    assert session.focus == {1}


def test_an_empty_line_repeats_a_run_command_and_nothing_else(type_keys: Any, stopped: Any) -> None:
    stopped.stops = [stopped.stop(hit=2), stopped.stop(hit=3)]
    type_keys("step\r\rfocus 1\r\r\x04")
    assert stopped.did == ["step", "wait", "step", "wait"]


def test_ctrl_c_drops_the_line(console: Console, type_keys: Any) -> None:
    type_keys("kil\x03focus 1\r\x04")
    assert console.history == ["focus 1"]


def test_tab_completes(console: Console, type_keys: Any, session: Any) -> None:
    type_keys("focus 0\rplace\t emb.weight\r\x04")
    # The completer runs in a thread: with keys sent ahead the line may be entered before it answers; a prefix will do.
    assert console.history[-1] in ("placements emb.weight", "place emb.weight")


def test_several_lines_for_a_breakpoint(type_keys: Any, session: Any) -> None:
    type_keys("break emb\rcommands\rwhere\rend\r\x04")
    assert session.rules[1].commands == ["where"]


def test_a_stop_while_typing_runs_its_commands_and_the_line_comes_back(
    console: Console, keys: PipeInput, session: Any, capsys: Any
) -> None:
    session.answers[m.Evaluate] = lambda rank, request: m.Evaluated(repr="4.85")
    prompt = make_prompt(console, InMemoryHistory(), input=keys, output=DummyOutput())
    seen: list[str] = []

    def stop(_: Any) -> None:
        if prompt.default_buffer.text != "focus ":
            return
        seen.append(prompt.default_buffer.text)
        if len(seen) == 1:
            console.hear(StopAnnounced(session.stop(frames=(), inputs=())))
        else:
            keys.send_text("1\r\x04")

    prompt.app.after_render += stop
    keys.send_text("break emb\rcommands\rprint loss\rend\rfocus ")
    run_prompt(console, prompt)
    assert capsys.readouterr().out.endswith(
        "● stopped 0-3 · iteration 42 · forward layer.0.attention · breakpoint 1\n0-3   4.85\nfocus 1\n"
    )
    assert session.focus == {1}


def test_delete_asks(console: Console, session: Any, type_keys: Any) -> None:
    type_keys("break emb\rbreak emb\rdelete\rn\rq\r")
    assert len(session.rules) == 2
    assert console.is_done


def test_toolbar(console: Console, session: Any) -> None:
    toolbar = Toolbar(console)
    assert toolbar.draw(9.5) == " 8f3a train.py │ 4 running │ iteration 0 │ focus all"
    for state in session.states.values():
        state.iteration = 41  # the first that the ranks tell: nothing is known of its rate
    assert toolbar.draw(10.0) == " 8f3a train.py │ 4 running │ iteration 41 │ focus all"
    session.states[0].iteration = 43
    session.states[3].status = "lost"
    assert toolbar.draw(10.5) == " 8f3a train.py │ 3 running, 1 lost │ iteration 43, 4.0/s │ focus all"


def test_history_is_private(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    open_history()
    assert history_path().stat().st_mode & 0o777 == 0o600
    with contextlib.suppress(OSError):
        assert history_path() == tmp_path / "distdbg" / "history"
