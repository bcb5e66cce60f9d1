"""What the user types, in the frame that he looks at."""

from __future__ import annotations

import random
import sys
from types import FrameType
from typing import Any

import pytest
import torch

from distdbg.agent.evaluation import compile_text, evaluate, execute, names_in
from distdbg.errors import EvaluationError, UsageError, WouldDeadlock

SCALE = 10


def frame_here() -> FrameType:
    return sys._getframe(1)


def test_locals_lie_over_globals() -> None:
    SCALE = 3  # noqa: N806, F841
    assert evaluate("SCALE", frame_here(), {}) == 3


def test_globals_and_builtins_are_there() -> None:
    assert evaluate("max(SCALE, 2)", frame_here(), {}) == 10


def test_a_comprehension_sees_locals() -> None:
    sizes, factor = [1, 2], 5  # noqa: F841
    assert evaluate("[size * factor * SCALE for size in sizes if factor]", frame_here(), {}) == [50, 100]
    assert evaluate("(lambda: factor)()", frame_here(), {}) == 5


def test_extras_give_way_to_the_frames_own_names() -> None:
    input = "mine"  # noqa: F841
    assert evaluate("input, output", frame_here(), {"input": "theirs", "output": "out"}) == ("mine", "out")
    assert evaluate("SCALE", frame_here(), {"SCALE": "extra"}) == "extra"


def test_looking_leaves_no_name_behind() -> None:
    before = set(globals())
    evaluate("(fresh := 5)", frame_here(), {})
    assert set(globals()) == before
    assert "fresh" not in locals()


def test_an_assignment_in_an_expression_does_not_change_a_local() -> None:
    value = 1
    evaluate("(value := 2)", frame_here(), {})
    assert value == 1


def test_the_random_state_is_kept() -> None:
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    evaluate("torch.rand(100)", frame_here(), {})
    assert torch.equal(torch.rand(3), expected)


def test_the_random_state_is_kept_when_it_raises() -> None:
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    with pytest.raises(EvaluationError):
        evaluate("torch.rand(100) / 'x'", frame_here(), {})
    assert torch.equal(torch.rand(3), expected)


def fail(error: BaseException) -> None:
    raise error


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("missing", "NameError: name 'missing' is not defined"),
        ("exit(3)", "SystemExit: 3"),
        ("fail(GeneratorExit())", "GeneratorExit"),
        ("fail(ValueError('a\\nb'))", "ValueError: a\nb"),
    ],
)
def test_what_it_raises_is_the_users_to_read(text: str, message: str) -> None:
    with pytest.raises(EvaluationError) as raised:
        evaluate(text, frame_here(), {})
    assert str(raised.value) == message


def test_ctrl_c_is_the_jobs_own_business() -> None:
    with pytest.raises(KeyboardInterrupt):
        evaluate("fail(KeyboardInterrupt())", frame_here(), {})
    with pytest.raises(KeyboardInterrupt):
        execute("raise KeyboardInterrupt", frame_here(), {})


def fail_wrapped() -> None:
    try:
        raise WouldDeadlock("no")
    except WouldDeadlock as error:
        raise RuntimeError("a library's own") from error


@pytest.mark.parametrize("text", ["fail(WouldDeadlock('no'))", "fail_wrapped()"])
def test_a_refusal_stays_one_though_a_library_has_wrapped_it(text: str) -> None:
    with pytest.raises(WouldDeadlock, match="no"):
        evaluate(text, frame_here(), {})


@pytest.mark.parametrize("mode", ["eval", "exec"])
def test_a_syntax_error_points_at_its_place(mode: str) -> None:
    with pytest.raises(UsageError) as raised:
        compile_text("a +* b", mode)
    first, second, third, last = str(raised.value).splitlines()
    assert (first, second, last) == ('File "<distdbg>", line 1', "    a +* b", "SyntaxError: invalid syntax")
    assert third.strip() == "^"


def test_a_statement_is_no_expression() -> None:
    with pytest.raises(UsageError, match="SyntaxError"):
        evaluate("x = 1", frame_here(), {})


def test_a_null_byte_is_no_program() -> None:
    with pytest.raises(UsageError, match="null bytes"):
        evaluate("a\0b", frame_here(), {})


# ---- exec -----------------------------------------------------------------------------------------------------------


def test_assignments_to_locals_last() -> None:
    rate, kept = 0.1, "kept"
    execute("rate = rate * 2; kept", frame_here(), {})
    assert (rate, kept) == (0.2, "kept")


def test_a_cell_is_assigned_too() -> None:
    total = 1

    def read() -> int:
        return total

    execute("total = 5", frame_here(), {})
    assert (total, read()) == (5, 5)


def test_a_new_name_is_there_for_the_next_look() -> None:
    execute("fresh = [1]", frame_here(), {})
    assert evaluate("fresh", frame_here(), {}) == [1]
    execute("fresh.append(2)", frame_here(), {})
    assert evaluate("fresh", frame_here(), {}) == [1, 2]


def test_a_block_of_lines_runs() -> None:
    seen: list[int] = []
    execute("for i in range(3):\n    if i:\n        seen.append(i)\n", frame_here(), {})
    assert seen == [1, 2]


def test_extras_are_seen_and_not_written_into_the_frame() -> None:
    result = None
    execute("result = output + 1", frame_here(), {"output": 4})
    assert result == 5
    assert "output" not in locals()


def test_a_global_statement_reaches_the_module() -> None:
    execute("global SCALE; SCALE = 11", frame_here(), {})
    try:
        assert SCALE == 11
    finally:
        execute("global SCALE; SCALE = 10", frame_here(), {})


def test_what_was_assigned_before_it_raised_is_not_half_written() -> None:
    value = 1
    with pytest.raises(EvaluationError, match="ZeroDivisionError"):
        execute("value = 2; 1 / 0", frame_here(), {})
    assert value == 1


def test_exec_may_draw_random_numbers() -> None:
    torch.manual_seed(0)
    first = torch.rand(3)
    torch.manual_seed(0)
    execute("torch.rand(3)", frame_here(), {})
    assert not torch.equal(torch.rand(3), first)


def test_at_module_level_names_are_globals() -> None:
    namespace: dict[str, Any] = {"sys": sys, "__name__": "script"}
    exec("frame = sys._getframe()", namespace)
    execute("made = 7", namespace["frame"], {})
    assert namespace["made"] == 7


def test_names_in_an_expression() -> None:
    assert names_in("a.b[c] + d(e=f) + 1") == {"a", "c", "d", "f"}


def test_pythons_own_random_numbers_are_as_before() -> None:
    random.seed(0)
    expected = random.random()
    random.seed(0)
    evaluate("[1 for _ in range(3)]", frame_here(), {})
    assert random.random() == expected
