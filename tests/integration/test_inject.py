"""Code gets into live processes that were not prepared for it, and they go on as if nothing had happened."""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from distdbg.client.inject import inject, ptrace
from distdbg.client.inject.tracee import Tracee
from distdbg.client.procfs import read_mappings
from distdbg.errors import InjectionFailed, NotPermitted, NotPython, ProcessGone

pytestmark = pytest.mark.skipif(not ptrace.is_supported(), reason="the injector is for x86-64 Linux")

TARGET = Path(__file__).parent.parent / "jobs" / "inject_target.py"
STATES = ("sleeping", "spinning", "polling", "reading", "computing", "deadlocked")
TIMEOUT_S = 60.0
SAY_HELLO = """
import threading
threading.Thread(target=lambda: print("hello", flush=True), daemon=True).start()
"""
UNPRIVILEGED = """
import os, pwd, sys
from distdbg.client.inject import inject
from distdbg.errors import NotPermitted
os.setgroups([])
os.setresgid(65534, 65534, 65534)
os.setresuid(65534, 65534, 65534)
try:
    inject(int(sys.argv[1]), "")
except NotPermitted as error:
    print(error)
"""


def interpreters() -> list[str]:
    others = Path.home().glob(".pyenv/versions/3.1[0-9].*/bin/python")
    return [sys.executable, *sorted(str(path) for path in others)]


class Target:
    """A child process whose words are waited for with a deadline."""

    def __init__(self, command: list[str]) -> None:
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._heard = b""
        self.pid = self._process.pid

    def expect(self, word: str) -> str:
        """The next line that starts with `word`, after the lines that do not."""
        assert self._process.stdout is not None
        deadline = time.monotonic() + TIMEOUT_S
        while True:
            line, newline, rest = self._heard.partition(b"\n")
            if newline:
                self._heard = rest
                if line.decode().startswith(word):
                    return line.decode()
                continue
            ready, _, _ = select.select([self._process.stdout], [], [], max(0.0, deadline - time.monotonic()))
            more = os.read(self._process.stdout.fileno(), 4096) if ready else b""
            if not more:
                pytest.fail(f"pid {self.pid} did not say {word!r}; exit status {self._process.poll()}")
            self._heard += more

    def say(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line.encode() + b"\n")
        self._process.stdin.flush()

    def is_alive(self) -> bool:
        return self._process.poll() is None

    def end(self) -> None:
        self._process.kill()
        self._process.communicate()


@pytest.fixture
def cleanup() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def start(cleanup: ExitStack, state: str, interpreter: str = sys.executable) -> Target:
    target = Target([interpreter, "-u", str(TARGET), state])
    cleanup.callback(target.end)
    target.expect("ready")
    return target


def num_code_pages(pid: int) -> int:
    """Executable memory that comes from no file."""
    return sum(mapping.is_executable and not mapping.path for mapping in read_mappings(pid))


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("interpreter", interpreters(), ids=lambda path: Path(path).parts[-3])
def test_code_runs_whatever_the_process_does(cleanup: ExitStack, state: str, interpreter: str) -> None:
    target = start(cleanup, state, interpreter)
    for _round in range(3):
        injection = inject(target.pid, SAY_HELLO)
        target.expect("hello")
        assert injection.method == "ptrace"
        assert 0 < injection.paused_s <= injection.total_s
    assert target.is_alive()


@pytest.mark.skipif(shutil.which("gdb") is None, reason="needs gdb")
@pytest.mark.parametrize("state", ["sleeping", "computing"])
def test_gdb_does_it_too(cleanup: ExitStack, state: str) -> None:
    target = start(cleanup, state)
    assert inject(target.pid, SAY_HELLO, method="gdb", timeout_s=TIMEOUT_S).method == "gdb"
    target.expect("hello")
    assert target.is_alive()


def test_several_processes_at_once(cleanup: ExitStack) -> None:
    targets = [start(cleanup, state) for state in STATES]
    with ThreadPoolExecutor(len(targets)) as pool:
        injections = list(pool.map(lambda target: inject(target.pid, SAY_HELLO), targets))
    for target in targets:
        target.expect("hello")
    assert [injection.tid for injection in injections] == [target.pid for target in targets]


def test_nothing_is_left_behind(cleanup: ExitStack) -> None:
    target = start(cleanup, "sleeping")
    for _round in range(20):
        inject(target.pid, "import json; leftover = json; print('hello', flush=True)")
        target.expect("hello")
    report = """
import __main__, threading
names = sorted(name for name in vars(__main__) if not name.startswith("__"))
print("left", threading.active_count(), "leftover" in names, "json" in names, flush=True)
"""
    inject(target.pid, report)
    assert target.expect("left") == "left 1 False False"
    # The last thread frees its code right after it has spoken.
    deadline = time.monotonic() + TIMEOUT_S
    while num_code_pages(target.pid):
        assert time.monotonic() < deadline
        os.sched_yield()


def test_names_of_the_job_do_not_disturb(cleanup: ExitStack) -> None:
    target = start(cleanup, "sleeping")
    inject(target.pid, "import __main__; __main__.compile = __main__.exec = __main__.print = True")
    inject(target.pid, "print('hello', flush=True)")
    target.expect("hello")


@pytest.mark.parametrize("code", ["raise SystemExit(3)", "1 / 0", "not python"])
def test_an_exception_stays_in_its_thread(cleanup: ExitStack, code: str) -> None:
    target = start(cleanup, "sleeping")
    inject(target.pid, code)
    inject(target.pid, SAY_HELLO)
    target.expect("hello")
    assert target.is_alive()


def test_any_text_arrives_as_it_is(cleanup: ExitStack) -> None:
    target = start(cleanup, "sleeping")
    inject(target.pid, "text = '''\"é\\n{}'''" + f"\n{'#' * 10_000}\nprint('length', len(text), flush=True)")
    assert target.expect("length") == "length 5"


def test_every_signal_still_arrives(cleanup: ExitStack) -> None:
    target = start(cleanup, "counting")
    target.expect("counting")
    num_signals = 0
    for _round in range(30):
        for _signal in range(5):
            os.kill(target.pid, signal.SIGRTMIN)
            num_signals += 1
        inject(target.pid, SAY_HELLO)
        target.expect("hello")
    target.say("")
    assert target.expect("seen") == f"seen {num_signals}"


def test_not_python(cleanup: ExitStack) -> None:
    sleeper = Target(["sleep", "3600"])
    cleanup.callback(sleeper.end)
    # The child is Python until it has become `sleep`.
    while os.path.basename(os.readlink(f"/proc/{sleeper.pid}/exe")) == os.path.basename(sys.executable):
        os.sched_yield()
    with pytest.raises(NotPython, match="is not a Python process"):
        inject(sleeper.pid, "")


def test_process_gone(cleanup: ExitStack) -> None:
    target = start(cleanup, "sleeping")
    os.kill(target.pid, signal.SIGKILL)
    os.waitid(os.P_PID, target.pid, os.WEXITED | os.WNOWAIT)
    with pytest.raises(ProcessGone, match="zombie"):
        inject(target.pid, "")
    target.end()
    with pytest.raises(ProcessGone, match=f"no process {target.pid}"):
        inject(target.pid, "")


def test_stopped_by_a_signal(cleanup: ExitStack) -> None:
    target = start(cleanup, "sleeping")
    os.kill(target.pid, signal.SIGSTOP)
    os.waitpid(target.pid, os.WUNTRACED)
    with pytest.raises(InjectionFailed, match=f"kill -CONT {target.pid}"):
        inject(target.pid, "")
    os.kill(target.pid, signal.SIGCONT)
    inject(target.pid, SAY_HELLO)
    target.expect("hello")


@pytest.mark.parametrize("method", ["ptrace", "gdb"])
def test_already_traced(cleanup: ExitStack, method: str) -> None:
    target = start(cleanup, "sleeping")
    tracee = Tracee(target.pid, target.pid)
    with pytest.raises(NotPermitted, match=f"pid {os.getpid()} .* already traces it"):
        inject(target.pid, "", method=method)
    tracee.interrupt()
    tracee.wait(TIMEOUT_S)
    tracee.detach()
    inject(target.pid, SAY_HELLO)
    target.expect("hello")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_process_of_another_user(cleanup: ExitStack) -> None:
    target = start(cleanup, "sleeping")
    root = str(Path(__file__).parent.parent.parent)
    done = subprocess.run(
        [sys.executable, "-c", UNPRIVILEGED, str(target.pid)],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        env={**os.environ, "PYTHONPATH": root},
    )
    assert f"Cannot attach to pid {target.pid}: it belongs to root, and you are nobody." in done.stdout, done.stderr
    assert "The job was not touched.\nAttach as root." in done.stdout
    assert target.is_alive()


def test_the_method_must_be_known() -> None:
    with pytest.raises(ValueError, match="auto, ptrace, gdb, remote_exec"):
        inject(os.getpid(), "", method="magic")


@pytest.mark.skipif(hasattr(sys, "remote_exec"), reason="this Python has it")
def test_remote_exec_needs_a_newer_python() -> None:
    with pytest.raises(InjectionFailed, match=r"no sys\.remote_exec"):
        inject(os.getpid(), "", method="remote_exec")
