"""Commands of the console on a real job, as scripts see them: `--json`, files, standard input, exit statuses."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.bench import Job, LiveConsole, Result, console, run_job

WQ = "layer.0.attention.wq.weight"


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Job]:
    """One job for all stories: each attaches and leaves it running."""
    with run_job("transformer_2d", nproc=4, runtime_dir=tmp_path_factory.mktemp("run")) as job:
        yield job


def events(told: Result, name: str) -> list[dict[str, Any]]:
    return [line for line in told.lines if line["type"] == "event" and line["event"] == name]


def test_the_json_that_others_rely_on(job: Job) -> None:
    told = console(
        job, "tbreak layer.0.attention", "continue", "placements layer.0.attention", f"inspect {WQ}", "where",
        "print x.shape", "print float(x.sum())", "@tp=1 print x.dim()", "detach",
    )  # fmt: skip
    assert told.returncode == 0, told.stdout
    assert [set(line) for line in told.lines if line["type"] == "result"] == [
        {"type", "command", "ok", "ranks", "clusters", "missing", "error"}
    ] * 9
    assert all({"type", "event", "ranks"} <= set(line) for line in told.lines if line["type"] == "event")
    (attached,) = events(told, "attached")
    assert attached["world_size"] == 4 and attached["pids"] == {str(rank): pid for rank, pid in job.pids.items()}

    # Stops: an event when it comes, and what the command that waited for it ends with.
    (stopped,) = events(told, "stopped")
    assert stopped["ranks"] == [0, 1, 2, 3]
    keys = {"event", "subject", "breakpoint", "iteration", "file", "line", "function"}
    assert keys <= set(stopped["stop"])
    assert stopped["stop"]["event"] == "forward-begin" and stopped["stop"]["subject"] == "layer.0.attention"
    assert stopped["stop"]["breakpoint"] == 1 and stopped["stop"]["iteration"] > 0

    # Placements: one object per tensor.
    by_rank = told.by_rank("placements layer.0.attention")
    for rank in range(4):
        dp, tp = divmod(rank, 2)
        wq, *_, wo = by_rank[rank]
        assert wq["fqn"] == WQ and wq["kind"] == "DTensor" and wq["dtype"] == "float32" and wq["device"] == "cpu"
        assert wq["shape"] == [36, 36] and wq["axes"] == ["dp", "tp"] and wq["mesh_shape"] == [2, 2]
        assert wq["coordinate"] == [dp, tp] and wq["placements"] == ["_S(0, 2)", "S(0)"]
        assert wq["local_shape"] == [9, 36] and wq["offset"] == [18 * tp + 9 * dp, 0]
        assert wo["placements"] == ["S(0)", "S(1)"] and wo["offset"] == [18 * dp, 18 * tp]

    # Inspect: the same and what is in it.
    for rank, (tensor,) in told.by_rank(f"inspect {WQ}").items():
        assert set(by_rank[rank][0]) <= set(tensor)
        stats = tensor["stats"]
        assert set(stats) == {"count", "mean", "std", "min", "max", "num_nan", "num_inf", "num_zero"}
        assert stats["count"] == 9 * 36 and stats["min"] < stats["mean"] < stats["max"]
        assert re.fullmatch(r"\w+:[0-9a-f]{16,}", tensor["fingerprint"]) and tensor["live"] is False

    frames = told.data("where")
    assert frames[0]["function"] == "Block.forward" and frames[0]["file"].endswith("transformer_2d.py")
    assert all(set(frame) == {"file", "line", "function"} for frame in frames)

    # Equal ranks share a cluster, unequal ones do not, the prefix narrows.
    assert told.data("print x.shape") == {"repr": "torch.Size([2, 16, 36])"}
    (sums,) = told.results("print float(x.sum())")
    assert [cluster["ranks"] for cluster in sums["clusters"]] == [[0, 1], [2, 3]]
    (narrowed,) = told.results("@tp=1 print x.dim()")
    assert narrowed["ranks"] == [1, 3] and narrowed["clusters"] == [{"ranks": [1, 3], "data": {"repr": "3"}}]
    assert all(set(left["timeouts_s"].values()) == {1800.0} for left in told.by_rank("detach").values())
    job.wait_for_progress()


def test_looking_at_every_kind_of_tensor(job: Job) -> None:
    emb, rows = "emb.weight", "self.emb.weight[50:52, :3].tolist()"
    whole = "self.layer[0].attention.wq.weight.full_tensor()[8:10, :3].tolist()"
    told = console(
        job, f"inspect {emb}", f"shards {emb}", "tbreak layer.1.attention end", "continue", f"values {emb}[50:52, :3]",
        "inspect input", "inspect x", "inspect x.mean(dim=0)", f"inspect {WQ}.exp_avg", f"inspect {WQ}.grad",
        "print output.sum()", "inspect output", "up", f"print {rows}", f"values {WQ}[8:10, :3]", f"print {whole}",
        "tbreak layer.0.attention backward", "continue",
        "inspect layer.1.attention.wq.weight.grad", "inspect grad_output",
    )  # fmt: skip
    live = told.by_rank(f"inspect {emb}")
    assert all(tensor["live"] for (tensor,) in live.values())
    assert [live[rank][0]["local_shape"] for rank in range(4)] == [[51, 36], [51, 36], [50, 36], [50, 36]]
    assert [told.by_rank(f"shards {emb}")[rank][0]["offset"] for rank in range(4)] == [[0, 0], [0, 0], [51, 0], [51, 0]]

    # The owners' values, without a collective, are those that the job itself sees with one.
    for name, owners, asked in [(f"{emb}[50:52, :3]", {0: [50, 0], 2: [51, 0]}, rows),
                                (f"{WQ}[8:10, :3]", {0: [8, 0], 2: [9, 0]}, whole)]:  # fmt: skip
        pieces = {rank: data["pieces"] for rank, data in told.by_rank(f"values {name}").items()}
        assert {rank: piece["start"] for rank, (piece,) in pieces.items()} == owners
        seen = [value for (piece,) in pieces.values() for value in piece["values"]]
        wanted = [value for row in json.loads(told.data(f"print {asked}")["repr"]) for value in row]
        assert seen == pytest.approx(wanted, rel=1e-6)

    for name, role in [("input", "input"), ("x", None), ("x.mean(dim=0)", None), ("output", "output")]:
        for (tensor,) in told.by_rank(f"inspect {name}").values():
            assert tensor["stats"]["count"] in (2 * 16 * 36, 16 * 36) and not tensor["live"], name
            assert role is None or tensor["role"] == role
    for (state,) in told.by_rank(f"inspect {WQ}.exp_avg").values():
        assert state["role"] == "optimizer" and state["placements"] == ["_S(0, 2)", "S(0)"]
    (none,) = told.results(f"inspect {WQ}.grad")
    assert not none["ok"] and "no gradient" in none["error"]
    for rank, (gradient,) in told.by_rank("inspect layer.1.attention.wq.weight.grad").items():
        assert gradient["local_shape"] == [9, 36] and gradient["stats"]["std"] > 0, rank
    assert told.by_rank("inspect grad_output")[0][0]["shape"] == [2, 16, 36]
    job.wait_for_progress()


def test_breakpoints_of_every_kind(job: Job) -> None:
    number = _line("x = x + self.attention(self.n1(x))")
    told = console(
        job, f"break transformer_2d.py:{number} if self.training", "continue", "locals", "exec mark = 6 * 7",
        "print mark", "up", "print type(self).__name__", "list", "down", "print type(self).__name__", "delete 1",
        "break layer.0.attention", "commands", "print x.dim() + 100", "end", "continue", "ignore 2 2", "continue",
        "disable 2", "tbreak layer.1.attention", "continue", "condition 2 x.dim() == 4", "enable 2",
        "info breakpoints", "break emb", "continue", "step 2", "finish", "next", "info breakpoints",
    )  # fmt: skip
    assert told.returncode == 0, told.stdout
    stops = [result["clusters"] for result in told.results("continue")]
    assert all(len(clusters) == 1 and clusters[0]["ranks"] == [0, 1, 2, 3] for clusters in stops)
    line, first, passed, temporary, emb = (clusters[0]["data"] for clusters in stops)
    assert (line["event"], line["breakpoint"], line["line"]) == ("line", 1, number)
    assert (first["event"], first["subject"], first["breakpoint"]) == ("forward-begin", "layer.0.attention", 2)
    assert passed["iteration"] == first["iteration"] + 3
    assert (temporary["subject"], temporary["breakpoint"]) == ("layer.1.attention", 3)
    assert (emb["subject"], emb["iteration"]) == ("emb", temporary["iteration"] + 1)  # the condition of 2 never holds

    assert set(told.data("locals")) == {"self", "x"}
    assert told.data("print mark") == {"repr": "42"}
    outer, inner = told.results("print type(self).__name__")
    assert [each["clusters"][0]["data"]["repr"] for each in (outer, inner)] == ["'FSDPNet'", "'FSDPBlock'"]
    assert told.data("up")["function"] == "Net.forward" and told.data("down")["frame"] == 0
    assert told.data("list")["function"] == "Net.forward" and len(told.data("list")["lines"]) == 11
    assert len(told.results("print x.dim() + 100")) >= 2  # of its own, at both of its stops

    rules, later = (result["clusters"][0]["data"] for result in told.results("info breakpoints"))
    (rule,) = rules
    assert rule["id"] == 2 and rule["condition"] == "x.dim() == 4" and rule["commands"] == ["print x.dim() + 100"]
    assert rule["is_enabled"] and rule["num_hits"] >= 4
    assert [each["id"] for each in later] == [2, 4]
    steps = [told.data(command) for command in ("step 2", "finish", "next")]
    assert [(step["event"], step["subject"]) for step in steps] == [
        ("forward-begin", "layer.0.n1"), ("forward-end", "layer.0.n1"), ("forward-begin", "layer.0.attention"),
    ]  # fmt: skip
    job.wait_for_progress()


def _line(text: str) -> int:
    from tests.bench.job import ROOT

    lines = (ROOT / "examples" / "transformer_2d.py").read_text().splitlines()
    return next(number for number, line in enumerate(lines, 1) if line.strip() == text)


def test_a_collective_on_some_of_its_ranks_is_refused_and_the_job_stays_in_step(job: Job) -> None:
    whole = "print self.attention.wq.weight.full_tensor()"
    told = console(
        job, "tbreak layer.0.attention", "continue", f"@0 {whole}.shape", f"@0,2 {whole}.shape", f"{whole}.shape",
        f"@tp=1 {whole[6:]}", "tbreak layer.1.attention", "continue",
    )  # fmt: skip
    assert told.returncode == 1
    for command in (f"@0 {whole}.shape", f"@0,2 {whole}.shape"):
        (refused,) = told.results(command)
        assert not refused["ok"] and "Refused: it would all_gather on tp (ranks 0-1) while" in refused["error"]
        assert "values NAME[...] needs no collective" in refused["error"] and refused["error_type"] == "WouldDeadlock"
    assert told.data(f"{whole}.shape") == {"repr": "torch.Size([36, 36])"}
    assert told.results("continue")[1]["clusters"][0]["data"]["subject"] == "layer.1.attention"
    job.wait_for_progress()


def test_words_that_are_unknown_or_of_a_later_version(job: Job) -> None:
    told = console(job, "whyy", "hang", "brake emb", "inspct emb.weight", "break layer.0.atention", "step decision")
    assert told.returncode == 1
    errors = {line["command"]: line["error"] for line in told.lines if line["type"] == "result"}
    assert "why is not in this version" in errors["whyy"] and "not in this version" in errors["hang"]
    assert errors["brake emb"] == "No command 'brake'. Nearest: break."
    assert errors["inspct emb.weight"] == "No command 'inspct'. Nearest: inspect."
    assert "Nearest: layer.0.attention" in errors["break layer.0.atention"]
    assert errors["step decision"].startswith("step decision is not in this version.")


def test_files_standard_input_and_exit_statuses(job: Job, tmp_path: Path) -> None:
    script = tmp_path / "look.dbg"
    script.write_text("# a comment\nstatus\n-print nothing\nbreak nosuch\nmesh\n")
    from_file = console(job, options=("--json", "-x", str(script)))
    assert from_file.returncode == 1
    commands = [line["command"] for line in from_file.lines if line["type"] == "result"]
    assert commands == ["status", "print nothing", "break nosuch"]  # mesh comes after the first failure

    typed = console(job, options=("--json",), stdin="status\nbreak nosuch\nmesh\n")
    assert typed.returncode == 0 and not events(typed, "stopped")  # --batch reads no standard input
    assert console(job, "status").returncode == 0
    assert console(job, "break nosuch").returncode == 1
    assert console(job, "continue", options=("--json", "--timeout", "1")).returncode == 124
    assert console(job, options=("--on-disconnect", "explode")).returncode == 2
    elsewhere = Job(job.process, job.log_path, job.env)
    assert _attach_to(elsewhere, "nosuchjob") == 4
    job.wait_for_progress()


def _attach_to(job: Job, name: str) -> int:
    import subprocess
    import sys

    words = [sys.executable, "-m", "distdbg", "attach", name, "--batch"]
    done = subprocess.run(words, env=job.env, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60)
    assert len(done.stderr.splitlines()) <= 6 and "Traceback" not in done.stderr, done.stderr
    return done.returncode


def test_a_rank_that_does_not_answer_is_named_with_the_reason(job: Job) -> None:
    with LiveConsole(job, "--json") as live:
        live.wait_for('"attached"')
        os.kill(job.pids[3], signal.SIGSTOP)
        try:
            live.type("where")
            line = live.wait_for('"command":"where"')
        finally:
            os.kill(job.pids[3], signal.SIGCONT)
        assert '"missing":[{"rank":3,"reason":"stopped by a signal"}]' in line
        live.type("print 1 +")  # standard input goes on after a failure
        live.wait_for('"ok":false')
        live.type("status")
        live.wait_for('"command":"status","ok":true')
        live.type("quit")
        live.wait_for('"command":"quit","ok":true')
        assert live.process.wait(20) == 1
    job.wait_for_progress()
