"""A Llama of Hugging Face under its own tensor parallel plan: stopped, looked into, left, and the same to the bit."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
import transformers

from tests.bench import Job, console

Jobs = Callable[..., AbstractContextManager[Job]]

ATTENTION = "model.layers.0.self_attn"
OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}


@pytest.mark.slow
def test_llama_under_its_own_plan(jobs: Jobs, tmp_path: Path) -> None:
    assert int(transformers.__version__.split(".")[0]) >= 5
    env = {"STEPS": "40", "STEP_SLEEP": "0.2", "LOSSES": str(tmp_path / "losses"), **OFFLINE}
    with jobs("hf_tp", env=env, ready="debugged step 0") as job:
        result = console(
            job, f"break {ATTENTION}.q_proj", "continue", f"placements {ATTENTION}.*",
            f"inspect {ATTENTION}.q_proj.weight", "print input.shape", "where",
            "break lm_head backward", "continue", f"shards {ATTENTION}.o_proj.weight",
            f"values {ATTENTION}.q_proj.weight[0:2, 0:2]", "delete 1", "delete 2",
            "exec __import__('os').environ.update(STEP_SLEEP='0')", "detach",
        )  # fmt: skip
        assert result.returncode == 0, result.stdout + result.stderr
        assert job.wait_for_end() == 0, job.log

    first, second = result.results("continue")
    for answer, event, subject in (
        (first, "forward-begin", f"{ATTENTION}.q_proj"),
        (second, "backward-begin", "lm_head"),
    ):
        (cluster,) = answer["clusters"]
        assert cluster["ranks"] == [0, 1]
        assert (cluster["data"]["event"], cluster["data"]["subject"]) == (event, subject)

    found = {
        each["fqn"].removeprefix(f"{ATTENTION}."): (
            each["kind"],
            each["placements"],
            each["shape"],
            each["local_shape"],
        )
        for rank, tensors in result.by_rank(f"placements {ATTENTION}.*").items()
        for each in tensors
        if rank == 1
    }
    assert found == {
        "q_proj.weight": ("DTensor", ["S(0)"], [32, 32], [16, 32]),
        "k_proj.weight": ("DTensor", ["S(0)"], [16, 32], [8, 32]),
        "v_proj.weight": ("DTensor", ["S(0)"], [16, 32], [8, 32]),
        "o_proj.weight": ("DTensor", ["S(1)"], [32, 32], [32, 16]),
    }
    seen = result.by_rank(f"inspect {ATTENTION}.q_proj.weight")
    for rank in (0, 1):
        (weight,) = seen[rank]
        assert (weight["coordinate"], weight["offset"], weight["live"]) == ([rank], [16 * rank, 0], False)
        assert weight["stats"]["count"] == 512 and weight["stats"]["num_nan"] == 0
    assert seen[0][0]["fingerprint"] != seen[1][0]["fingerprint"]
    assert result.data("print input.shape")["repr"] == "torch.Size([2, 16, 32])"
    assert "LlamaAttention.forward" in [frame["function"] for frame in result.data("where")]

    for rank in (0, 1):
        alone = (tmp_path / f"losses.alone.{rank}").read_text().splitlines()
        assert len(alone) == 40
        assert (tmp_path / f"losses.debugged.{rank}").read_text().splitlines() == alone
