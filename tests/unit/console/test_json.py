"""`--json`: the lines that other programs rely on (design.md, "The user's side")."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from distdbg.client.state import RankRan, RankWasLost, StopAnnounced, WarningGiven
from distdbg.console.console import Console
from distdbg.schema import message as m

Lines = Callable[..., list[dict[str, Any]]]


@pytest.fixture
def lines(json_console: Console, capsys: pytest.CaptureFixture[str]) -> Lines:
    def run(*typed: str) -> list[dict[str, Any]]:
        for each in typed:
            json_console.run(each)
        return [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    return run


def test_placements(lines: Lines) -> None:
    (result,) = lines("placements layer.0.attention.wq.weight")
    clusters = result.pop("clusters")
    assert result == {
        "type": "result", "command": "placements layer.0.attention.wq.weight", "ok": True, "ranks": [0, 1, 2, 3],
        "missing": [], "error": None,
    }  # fmt: skip
    assert [each["ranks"] for each in clusters] == [[0], [1], [2], [3]]
    assert clusters[1]["data"] == [
        {
            "fqn": "layer.0.attention.wq.weight", "kind": "DTensor", "shape": [36, 36], "dtype": "float32",
            "device": "cpu", "role": "parameter", "local_shape": [9, 36], "local_bytes": 1296, "axes": ["dp", "tp"],
            "mesh_shape": [2, 2], "coordinate": [0, 1], "placements": ["_S(0, 2)", "S(0)"], "offset": [18, 0],
        }
    ]  # fmt: skip


def test_inspect_adds_statistics(lines: Lines) -> None:
    (result,) = lines("@0 inspect emb.weight")
    (tensor,) = result["clusters"][0]["data"]
    assert set(tensor["stats"]) == {"count", "mean", "std", "min", "max", "num_nan", "num_inf", "num_zero"}
    assert tensor["fingerprint"] == "xxh3:00000000ffff"
    assert tensor["live"] is False


def test_where_is_a_list_of_frames(lines: Lines, stopped: Any) -> None:
    (result,) = lines("where")
    frame = {"file": "train.py", "line": 47, "function": "Block.forward"}
    assert result["clusters"] == [{"ranks": [0, 1, 2, 3], "data": [frame]}]


def test_continue_gives_the_stop(lines: Lines, session: Any) -> None:
    session.stops = [session.stop()]
    (result,) = lines("continue")
    (cluster,) = result["clusters"]
    assert cluster["ranks"] == [0, 1, 2, 3]
    wanted = {"event": "forward-begin", "subject": "layer.0.attention", "breakpoint": 1, "iteration": 42}
    assert wanted.items() <= cluster["data"].items()


def test_the_end_of_the_job(lines: Lines, json_console: Console, session: Any) -> None:
    session.stops = [None]
    (result,) = lines("continue")
    assert result["ok"] is True
    assert result["clusters"][0]["data"]["event"] == "exited"
    assert json_console.exit_status == 0


def test_failures_and_missing_ranks(lines: Lines, json_console: Console, session: Any) -> None:
    answers = [m.Evaluated(repr="1"), "gil-held", m.Failure(error="EvaluationError", message="NameError"), "gone"]
    session.answers[m.Evaluate] = lambda rank, request: answers[rank]
    (result,) = lines("print x")
    assert result["clusters"] == [
        {"ranks": [0], "data": {"repr": "1"}},
        {"ranks": [2], "data": {"error": "EvaluationError", "message": "NameError"}},
    ]
    assert result["missing"] == [{"rank": 1, "reason": "gil-held"}, {"rank": 3, "reason": "gone"}]
    assert (result["ok"], result["error"], result["error_type"]) == (False, "NameError", "EvaluationError")
    assert json_console.exit_status == 3


def test_a_wrong_line(lines: Lines, json_console: Console) -> None:
    (result,) = lines("contnue")
    assert result["ok"] is False
    assert result["error"] == "No command 'contnue'. Nearest: continue."
    assert json_console.exit_status == 1


def test_events(lines: Lines, json_console: Console, session: Any) -> None:
    json_console.hear(StopAnnounced(session.stop(frames=(), inputs=())))
    json_console.hear(RankWasLost(3, "exited"))
    json_console.hear(RankRan(2, "lease"))
    json_console.hear(WarningGiven(1, "a hook was closed"))
    stop, lost, ran, warning = lines()
    assert stop == {
        "type": "event", "event": "stopped", "ranks": [0, 1, 2, 3],
        "stop": {"event": "forward-begin", "subject": "layer.0.attention", "breakpoint": 1, "iteration": 42,
                 "class": "Attention", "call": 1, "is_recompute": False},
    }  # fmt: skip
    assert lost == {"type": "event", "event": "lost", "ranks": [3], "reason": "exited"}
    assert ran == {"type": "event", "event": "resumed", "ranks": [2], "reason": "lease"}
    assert warning == {"type": "event", "event": "warning", "ranks": [1], "text": "a hook was closed"}


@pytest.mark.parametrize(
    "line",
    ["status", "focus tp=1", "mesh", "modules", "break emb", "info breakpoints", "shards emb.weight",
     "values emb.weight[0:2, 0:2]", "stats emb.weight", "help", "help where", "show", "set width 80", "alias a where",
     "history", "!1 + 1", "watch emb.weight", "tbreak emb end", "detach"],
)  # fmt: skip
def test_every_command_writes_one_line(lines: Lines, line: str) -> None:
    (result,) = lines(line)
    assert result["ok"] is True, result
    assert set(result) == {"type", "command", "ok", "ranks", "clusters", "missing", "error"}
