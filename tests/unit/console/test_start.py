"""What the console process loads, and how fast the command line answers."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROBE = """
import sys
{statement}
print(*sorted(name for name in ("torch", "prompt_toolkit", "tabulate", "pygments") if name in sys.modules))
"""


def loaded_by(statement: str) -> list[str]:
    done = subprocess.run([sys.executable, "-c", PROBE.format(statement=statement)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.parametrize(
    ("statement", "wanted"),
    [
        ("import distdbg.__main__", []),
        ("import distdbg.console.attach; from distdbg.console.registry import load_commands; load_commands()", []),
        ("import distdbg.console.jobs", []),
        ("import distdbg.console.prompt", ["prompt_toolkit", "pygments"]),
    ],
)
def test_only_what_is_needed(statement: str, wanted: list[str]) -> None:
    assert loaded_by(statement) == wanted


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "distdbg", *words], capture_output=True, text=True)


def test_version_and_usage() -> None:
    assert run("--version").stdout.startswith("distdbg ")
    assert run().returncode == 2
    assert run("attach", "--on-disconnect", "explode").returncode == 2


def test_run_gets_its_words_untouched(monkeypatch: pytest.MonkeyPatch) -> None:
    from distdbg import __main__ as command_line
    from distdbg.client import launch

    seen: list[list[str]] = []
    monkeypatch.setattr(launch, "main", lambda argv: seen.append(argv) or 0)
    assert command_line.main(["run", "--nproc-per-node", "4", "train.py", "--help", "-x"]) == 0
    assert seen == [["--nproc-per-node", "4", "train.py", "--help", "-x"]]


def test_an_error_is_one_sentence_and_its_exit_status(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from distdbg import __main__ as command_line
    from distdbg.console import jobs
    from distdbg.errors import NotPermitted

    def refuse(is_json: bool) -> int:
        raise NotPermitted("the kernel forbids it")

    monkeypatch.setattr(jobs, "main", refuse)
    assert command_line.main(["jobs"]) == 5
    assert capsys.readouterr().err == "the kernel forbids it\n"


def test_steps_keep_their_order() -> None:
    from distdbg.__main__ import _parser

    words = ["attach", "8f3a", "-ex", "break emb", "-x", "more.dbg", "-ex", "continue", "--timeout", "3"]
    arguments = _parser().parse_args(words)
    assert arguments.steps == [("ex", "break emb"), ("x", "more.dbg"), ("ex", "continue")]
    assert (arguments.job, arguments.timeout) == ("8f3a", 3.0)
