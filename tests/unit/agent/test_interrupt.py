"""An interrupt reaches the evaluation that it was meant for, and nothing after it."""

from __future__ import annotations

import itertools
import subprocess
import sys
import threading
from queue import SimpleQueue

import pytest

from distdbg.agent.interrupt import Interruptible
from distdbg.errors import EvaluationError


def test_an_endless_evaluation_ends() -> None:
    interruptible = Interruptible()
    has_begun = threading.Event()

    def work() -> None:
        has_begun.set()
        for _ in itertools.count():
            pass

    threading.Thread(target=lambda: has_begun.wait() and interruptible.interrupt(), daemon=True).start()
    with pytest.raises(EvaluationError, match="interrupted"):
        interruptible.run(work)


def test_nothing_is_told_when_nothing_is_evaluated() -> None:
    assert Interruptible().interrupt() is False


def test_an_evaluation_leaves_the_interpreter_as_it_was() -> None:
    """On 3.11 an eval breaker that stays set makes the first call under a trace function spin for ever."""
    program = (
        "import sys; from distdbg.agent.interrupt import Interruptible\n"
        "Interruptible().run(lambda: None); sys.settrace(lambda *_: None); (lambda: None)(); print('traced')"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.stdout == "traced\n", done.stderr


def test_no_interrupt_goes_off_after_its_evaluation() -> None:
    interruptible = Interruptible()
    is_over = threading.Event()
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # threads change places at every chance
    outcomes: SimpleQueue[str] = SimpleQueue()

    def pester() -> None:
        while not is_over.is_set():
            interruptible.interrupt()

    def train() -> None:
        try:
            for _ in range(20_000):
                try:
                    interruptible.run(lambda: None)
                    outcomes.put("done")
                except EvaluationError:
                    outcomes.put("interrupted")
        except BaseException as error:  # whatever gets out here would have got into the training
            outcomes.put(repr(error))
        finally:
            is_over.set()

    pesterer, trainer = threading.Thread(target=pester, daemon=True), threading.Thread(target=train, daemon=True)
    pesterer.start()
    trainer.start()
    trainer.join(60)
    sys.setswitchinterval(usual)
    seen = {outcomes.get() for _ in range(outcomes.qsize())}
    assert "done" in seen
    assert seen <= {"done", "interrupted"}
