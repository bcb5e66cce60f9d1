"""A call on the main thread between two of its bytecodes."""

from __future__ import annotations

import gc
import threading
from types import FrameType

import pytest

from distdbg.hooks import pending
from distdbg.hooks.pending import call_on_main_thread


def spin_until(flag: list[object]) -> None:
    """What a busy main thread does: bytecodes."""
    for _ in range(10_000_000):
        if flag:
            return
    raise AssertionError("nothing came")


def from_another_thread(function: object) -> None:
    thread = threading.Thread(target=call_on_main_thread, args=(function,))
    thread.start()
    thread.join()


def test_it_is_called_on_the_main_thread_with_the_interrupted_frame() -> None:
    seen: list[tuple[int, str]] = []

    def call(frame: FrameType | None) -> None:
        assert frame is not None
        seen.append((threading.get_ident(), frame.f_code.co_name))

    assert threading.current_thread() is threading.main_thread()
    from_another_thread(call)
    spin_until(seen)
    assert seen[0][0] == threading.get_ident()
    assert len(seen) == 1


@pytest.mark.parametrize("error", [ValueError("ours"), SystemExit(3), GeneratorExit()])
def test_what_it_raises_does_not_reach_the_program(error: BaseException, capsys: pytest.CaptureFixture[str]) -> None:
    seen: list[object] = []

    def call(_frame: FrameType | None) -> None:
        seen.append(1)
        raise error

    from_another_thread(call)
    spin_until(seen)
    assert capsys.readouterr().err.splitlines()[-1].startswith(type(error).__name__)


def test_ctrl_c_while_it_stays_is_the_programs() -> None:
    seen: list[object] = []

    def call(_frame: FrameType | None) -> None:
        seen.append(1)
        raise KeyboardInterrupt

    def run() -> None:
        from_another_thread(call)
        spin_until([])

    with pytest.raises(KeyboardInterrupt):
        run()
    assert seen == [1]


def test_callbacks_that_are_done_are_swept_and_none_is_freed_before() -> None:
    seen: list[object] = []
    for turn in range(5):
        from_another_thread(lambda _frame: seen.append(1))
        for _ in range(1000):
            if len(seen) > turn:
                break
        gc.collect()
    assert len(seen) == 5
    assert len(pending._thunks) == 1


def test_it_may_stay_and_run_others() -> None:
    seen: list[str] = []

    def outer(_frame: FrameType | None) -> None:
        threading.Event().wait(0.01)
        seen.append("outer")

    from_another_thread(outer)
    spin_until(seen)  # type: ignore[arg-type]
    assert seen == ["outer"]
