"""What lines share: stops that are awaited, breakpoints' own commands, scripts, exit status."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from distdbg.client.state import RankWasLost, StopAnnounced
from distdbg.client.stops import STEP_RULE
from distdbg.console import batch
from distdbg.console.console import Console
from distdbg.errors import DistdbgError
from distdbg.schema import message as m
from distdbg.schema.tensor import Piece, Tensor

Screen = Callable[..., str]


class Late(DistdbgError):
    exit_status = 124


def test_a_breakpoint_runs_its_own_commands(console: Console, screen: Screen, session: Any) -> None:
    session.answers[m.Evaluate] = lambda rank, request: m.Evaluated(repr="4.85")
    session.stops = [session.stop(hit=1, frames=(), inputs=()), session.stop(hit=2, frames=(), inputs=())]
    lines = iter(["print loss", "end"])
    console.read_more = lambda prompt: next(lines)
    shown = screen("break emb", "commands 1", "continue", "continue")
    assert shown.count("● stopped 0-3") == 2
    assert shown.count("0-3   4.85") == 2


def test_the_commands_of_a_stop_that_nobody_awaits_run_before_the_next_line(
    console: Console, screen: Screen, session: Any
) -> None:
    session.answers[m.Evaluate] = lambda rank, request: m.Evaluated(repr="4.85")
    lines = iter(["print loss", "end"])
    console.read_more = lambda prompt: next(lines)
    screen("tbreak emb", "commands 1")
    session.delete_rule(1)  # as a temporary one is when it stops
    console.hear(StopAnnounced(session.stop(frames=(), inputs=())))
    assert screen("status").splitlines()[:2] == [
        "● stopped 0-3 · iteration 42 · forward layer.0.attention · breakpoint 1",
        "0-3   4.85",
    ]
    assert console.last_line == "status"  # what an empty line repeats is what was typed
    assert "4.85" not in screen("status")


def test_step_n_steps_n_times_unless_a_breakpoint_stops_it(console: Console, screen: Screen, stopped: Any) -> None:
    step = {"breakpoint": None, "rule": STEP_RULE}
    stopped.stops = [stopped.stop(hit=hit, **step) for hit in (2, 3, 4)]
    assert screen("step 3").count("● stopped") == 1
    assert stopped.did == ["step", "wait"] * 3
    stopped.did.clear()
    stopped.stops = [stopped.stop(hit=5, **step), stopped.stop(hit=6)]
    assert "breakpoint 1" in screen("next 5")
    assert stopped.did == ["next", "wait"] * 2
    assert screen("step 0").startswith("N is at least 1.")


def test_a_stop_is_shown_once(console: Console, screen: Screen, session: Any) -> None:
    report = session.stop(frames=(), inputs=())
    session.stops = [report]
    shown = screen("continue")
    console.hear(StopAnnounced(report))  # the connection's thread comes late
    assert shown.count("● stopped") == 1
    assert screen() == ""


def test_a_stop_that_nobody_awaits_is_announced(console: Console, screen: Screen, session: Any) -> None:
    console.hear(StopAnnounced(session.stop(frames=(), inputs=())))
    console.hear(RankWasLost(3, "killed by signal 9"))
    assert screen() == (
        "● stopped 0-3 · iteration 42 · forward layer.0.attention · breakpoint 1\n● rank 3 lost: killed by signal 9\n"
    )


def test_continue_does_not_release_ranks_that_are_coming_together(
    console: Console, screen: Screen, session: Any
) -> None:
    session.states[0].status, session.states[0].stop = "stopped", session.stop().clusters[0].stop  # not announced yet
    session.stops = [session.stop()]
    screen("continue")
    assert session.did == ["wait"]
    session.stops = [session.stop(hit=2)]
    screen("continue")
    assert session.did == ["wait", "resume", "wait"]


def test_continue_n_passes_the_breakpoint(console: Console, screen: Screen, session: Any) -> None:
    session.stops = [session.stop(), session.stop(hit=2)]
    screen("break emb", "continue", "continue 5")
    assert session.rules[1].ignore_count == 4


def test_a_file_ends_at_its_first_failure(console: Console, screen: Screen, tmp_path: Any) -> None:
    script = tmp_path / "steps.dbg"
    script.write_text("# comment\n-nonsense\nfocus 0\nnonsense\nfocus 1\n")
    shown = screen(f"source {script}")
    assert "focus 0" in shown
    assert "focus 1" not in shown
    assert f"{script}: stopped at 'nonsense'" in shown


def test_ex_goes_on_after_a_failure_and_the_worst_status_wins(console: Console, session: Any, capsys: Any) -> None:
    session.stops = [Late("No stop within 1 s; the ranks go on.")]
    batch.run_steps(console, [("ex", "nonsense"), ("ex", "continue"), ("ex", "focus 0")])
    assert "focus 0" in capsys.readouterr().out
    assert batch.finish(console) == 124


def test_commands_of_a_breakpoint_come_from_the_following_ex(console: Console, session: Any, capsys: Any) -> None:
    steps = ["break emb", "commands", "print loss", "end", "info breakpoints"]
    batch.run_steps(console, [("ex", step) for step in steps])
    assert session.rules[1].commands == ["print loss"]


def test_standard_input(
    console: Console, session: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import io

    monkeypatch.setattr("sys.stdin", io.StringIO("break emb\ncommands 1\nwhere\nend\nfocus 2\n"))
    batch.run_stdin(console)
    assert session.rules[1].commands == ["where"]
    assert "focus 2" in capsys.readouterr().out
    assert batch.finish(console) == 0


def test_a_killed_rank_makes_the_exit_status(console: Console, screen: Screen) -> None:
    console.hear(RankWasLost(3, "exited"))
    assert console.exit_status == 0
    console.hear(RankWasLost(2, "its process has ended"))
    assert console.exit_status == 3


def test_exec_reads_a_block(console: Console, session: Any, screen: Screen) -> None:
    session.answers[m.Evaluate] = lambda rank, request: m.Done()
    lines = iter(["    print(i)", ""])
    console.read_more = lambda prompt: next(lines)
    screen("exec for i in x:")
    assert session.asked[-1][0].text == "for i in x:\n    print(i)"


def test_values_of_one_of_several_inputs(console: Console, session: Any) -> None:
    def describe(rank: int, request: m.DescribeTensors) -> m.Tensors:
        names = ("input[0]", "input[1]") if request.name == "input" else (request.name,)
        kind = Tensor(fqn="", kind="Tensor", shape=(2,), dtype="float32", device="cpu", local_shape=(2,))
        return m.Tensors(tuple(msgspec.structs.replace(kind, fqn=name) for name in names))

    session.answers[m.DescribeTensors] = describe
    session.answers[m.ReadValues] = lambda rank, request: m.Values(
        pieces=(Piece(start=(0,), shape=(2,), values=(1.0, 2.0)),)
    )
    console.evaluate("values input[1]")
    assert session.asked[-1][0].name == "input[1]"


def test_ctrl_c_interrupts_the_command(console: Console, screen: Screen, session: Any) -> None:
    session.stops = [KeyboardInterrupt()]
    assert screen("continue") == "Interrupted. The ranks go on as they were.\n"
    assert not console.is_waiting
