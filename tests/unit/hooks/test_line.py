"""`break FILE:LINE`: source lines as events."""

from __future__ import annotations

import asyncio
import gc
import importlib.util
import subprocess
import sys
from pathlib import Path
from types import FunctionType
from typing import Any

import pytest

from distdbg.errors import AmbiguousName, UnknownName, UsageError
from distdbg.hooks import line_swap
from distdbg.hooks.line import Target, line

JOBS = Path(__file__).parents[2] / "jobs"
FILE = "jobs/lines.py"
NUMBERS = {
    text.split("@")[1].strip(): number
    for number, text in enumerate((JOBS / "lines.py").read_text().splitlines(), 1)
    if "@" in text and "#" in text
}
OTHERS = [
    found
    for version in ("3.10", "3.11", "3.12", "3.13", "3.14")
    for found in sorted(Path.home().glob(f".pyenv/versions/{version}*/bin/python"))[-1:]
]


@pytest.fixture
def job() -> Any:
    """The module with the lines, fresh."""
    spec = importlib.util.spec_from_file_location("lines_job", JOBS / "lines.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Seen(list[tuple[int, dict[str, Any]]]):
    """(line, locals) of each event; as what it takes part in the calls of `line`."""

    def __call__(self, event: Any, scene: Any) -> None:
        assert event.line == scene.frame.f_lineno
        assert event.file == scene.frame.f_code.co_filename
        self.append((event.line, dict(scene.frame.f_locals)))

    def at(self, *marks: str) -> bool:
        """Whether exactly these lines were reached."""
        return [number for number, _ in self] == [NUMBERS[mark] for mark in marks]


def targets(*marks: str) -> list[Target]:
    """Targets on marked lines."""
    return [Target(FILE, NUMBERS[mark]) for mark in marks]


def codes(job: Any) -> dict[str, int]:
    """The identity of every code object that the module's functions have."""
    found: dict[str, int] = {}
    for owner in (job, job.Base, job.Child):
        for name, value in vars(owner).items():
            function = getattr(value, "__func__", None) or getattr(value, "fget", None) or value
            if isinstance(function, FunctionType):
                found[f"{owner.__name__}.{name}"] = id(function.__code__)
    return found


def test_method_with_super_cell(job: Any) -> None:
    seen = Seen()
    with line(targets("super"), seen) as places:
        assert job.Child().scale(3) == 7
    assert places[0].line == NUMBERS["super"]
    assert places[0].function == "Child.scale"
    assert seen.at("super")
    assert seen[0][1]["x"] == 3


def test_several_lines_of_one_function(job: Any) -> None:
    seen = Seen()
    with line(targets("super", "middle"), seen) as places:
        job.Child().scale(3)
    assert [number for number, _ in seen] == [place.line for place in places]
    assert len(seen) == 2


def test_hooks_on_one_function_open_and_close_in_any_order(job: Any) -> None:
    before = codes(job)
    first, second = Seen(), Seen()
    one, two = line(targets("super"), first), line(targets("super", "base"), second)
    one.__enter__()
    two.__enter__()
    assert job.Child().scale(3) == 7
    assert first.at("super")
    assert second.at("super", "base")
    one.__exit__(None, None, None)
    job.Child().scale(3)
    assert first.at("super")
    assert len(second) == 4
    two.__exit__(None, None, None)
    job.Child().scale(3)
    assert len(second) == 4
    assert codes(job) == before


@pytest.mark.parametrize(
    ("mark", "call", "times"),
    [
        ("loop", lambda job: job.Child.plain(3), 3),
        ("property", lambda job: job.Child().shown, 1),
        ("inner", lambda job: (job.shift(1), job.make(2)(1)), 2),
        ("outer", lambda job: job.make(1), 1),
        ("yield", lambda job: list(job.produce(3)), 3),
        ("async", lambda job: asyncio.run(job.wait(1)), 1),
        ("comprehension", lambda job: job.squares(3), 1),
        ("while", lambda job: job.count(2), 3),
        ("elif", lambda job: job.branch(-1), 1),
        ("else", lambda job: job.branch(0), 1),
        ("except", lambda job: job.branch(0), 1),
    ],
)
def test_every_kind_of_code(job: Any, mark: str, call: Any, times: int) -> None:
    before, plain = codes(job), repr(call(job))
    seen = Seen()
    with line(targets(mark), seen):
        assert repr(call(job)) == plain
    assert seen.at(*[mark] * times)
    call(job)
    assert len(seen) == times
    assert codes(job) == before


def test_function_made_while_open_is_restored(job: Any) -> None:
    seen = Seen()
    with line(targets("inner"), seen):
        made = job.make(1)
        assert made(1) == 2
    assert made(1) == 2
    assert made.__code__ is job.shift.__code__
    assert seen.at("inner")
    assert not line_swap._swaps
    assert not line_swap._originals


def test_line_without_code_moves_to_the_nearest(job: Any) -> None:
    with line(targets("comment", "def"), Seen()) as places:
        pass
    assert [place.line - NUMBERS["comment"] for place in places] in ([1, -1], [2, -1])
    assert f"line {NUMBERS['comment']} has no code of its own" in places[0].note


def test_class_body_has_run(job: Any) -> None:
    with pytest.raises(UsageError, match="body of class Base, which has run"), line(targets("class-body"), Seen()):
        pass


def test_unknown_file_names_the_nearest(job: Any) -> None:
    with pytest.raises(UnknownName, match=r"No code is loaded from linse.py. Nearest: .*lines.py"):
        line([Target("linse.py", 1)], Seen()).__enter__()


def test_ambiguous_file_is_listed() -> None:
    with pytest.raises(AmbiguousName, match="Type more of the path"):
        line([Target("__init__.py", 1)], Seen()).__enter__()


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="code objects are watched, whatever the source says")
def test_changed_source_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "changing.py"
    path.write_text("def f(x):\n    return x\n")
    space: dict[str, Any] = {}
    exec(compile(path.read_text(), str(path), "exec", dont_inherit=True), space)
    path.write_text("def f(x):\n    return x + 1\n")
    before = space["f"].__code__
    with pytest.raises(UsageError, match="is not what runs"), line([Target("changing.py", 2)], Seen()):
        pass
    assert space["f"].__code__ is before


def test_call_that_is_already_running(job: Any) -> None:
    seen, opened = Seen(), []

    def step(i: int) -> None:
        if i == 1:
            hook = line(targets("running"), seen)
            opened.append((hook, hook.__enter__()))
        if i == 4:
            opened[0][0].__exit__(None, None, None)

    assert job.run_long(step, 6) == [0, 1, 2, 3, 4, 5]
    assert [values["i"] for _, values in seen] == [1, 2, 3]
    assert sys.gettrace() is None
    if sys.version_info < (3, 12):
        assert "is running: this call is traced" in opened[0][1][0].note


def test_code_that_gc_freeze_hides(job: Any) -> None:
    sys.modules["lines_job"] = job
    seen = Seen()
    gc.collect()
    gc.freeze()
    try:
        with line(targets("super", "loop"), seen):
            job.Child().scale(3)
            job.Child.plain(1)
    finally:
        gc.unfreeze()
        del sys.modules["lines_job"]
    assert seen.at("super", "loop")


def test_running_call_that_is_past_the_line(job: Any) -> None:
    seen, notes = Seen(), []

    def step(i: int) -> None:
        with line([Target(FILE, NUMBERS["running"] - 3)], seen) as places:
            notes.append(places[0].note)

    job.run_long(step, 1)
    assert seen == []
    if sys.version_info < (3, 12):
        assert notes == ["run_long is running, and past this line"]


def test_one_that_fails_leaves_nothing(job: Any) -> None:
    before = codes(job)
    with pytest.raises(UsageError), line([*targets("super"), *targets("class-body")], Seen()):
        pass
    assert codes(job) == before


@pytest.mark.parametrize("python", OTHERS, ids=lambda path: path.parents[1].name)
def test_other_interpreters(python: Path) -> None:
    script = Path(__file__).with_name("line_other_python.py")
    done = subprocess.run([python, script], capture_output=True, text=True, timeout=60)
    assert done.stdout == "passed\n", done.stderr
