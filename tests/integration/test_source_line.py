"""`break FILE:LINE` in a live job."""

from __future__ import annotations

from typing import Any

from tests.bench import console
from tests.bench.job import ROOT

TEXT = (ROOT / "examples" / "transformer_2d.py").read_text().splitlines()


def number_of(text: str) -> int:
    """The line of the example that contains `text`."""
    (found,) = [number for number, line in enumerate(TEXT, 1) if text in line]
    return found


def test_every_rank_stops_before_the_line(jobs: Any) -> None:
    here = number_of("y = F.scaled_dot_product_attention")
    with jobs("transformer_2d", nproc=4) as job:
        result = console(job, f"break transformer_2d.py:{here}", "continue", "where", "print q.shape")
        assert result.returncode == 0, result.stdout + result.stderr
        frame = result.data("where")[0]
        assert (frame["line"], frame["function"]) == (here, "Attention.forward")
        assert result.data("print q.shape")["repr"] == "torch.Size([2, 2, 16, 9])"
        job.wait_for_progress()


def test_the_training_loop_that_is_running(jobs: Any) -> None:
    here = number_of("loss.backward()")
    with jobs("transformer_2d", nproc=2) as job:
        commands = [f"break transformer_2d.py:{here}", "continue", "print step", "continue", "print step"]
        result = console(job, *commands)
        assert result.returncode == 0, result.stdout + result.stderr
        first, second = [int(one["clusters"][0]["data"]["repr"]) for one in result.results("print step")]
        assert second == first + 1
        job.wait_for_progress()


def test_a_line_that_does_not_run_again_is_refused(jobs: Any) -> None:
    with jobs("transformer_2d", nproc=2) as job:
        result = console(job, f"break transformer_2d.py:{number_of('PLAN = {')}", "break trnsformer_2d.py:1")
        assert result.returncode != 0
        bodies, nearest = [str(line.get("error")) for line in result.lines if line["type"] == "result"]
        assert "has run and does not run again" in bodies
        assert "Nearest: transformer_2d.py" in nearest
