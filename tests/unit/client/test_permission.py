"""Each reason for which the kernel refuses gets its own sentence and remedy; the processes here are made up."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from distdbg.client.inject.permission import explain_refusal
from distdbg.errors import ProcessGone

PID = 4101
CAP_SYS_PTRACE = 1 << 19


def add(proc: Path, pid: int, uid: int, capabilities: int = 0, **more: str) -> None:
    (proc / str(pid)).mkdir()
    lines = {
        "Name": "python",
        "State": "S (sleeping)",
        "PPid": "1",
        "TracerPid": "0",
        "Uid": f"{uid}",
        **more,
    }
    text = "".join(f"{name}:\t{value}\n" for name, value in lines.items())
    (proc / str(pid) / "status").write_text(f"{text}CapEff:\t{capabilities:016x}\n")
    (proc / str(pid) / "environ").touch()


def set_yama_scope(proc: Path, scope: int) -> None:
    (proc / "sys/kernel/yama").mkdir(parents=True)
    (proc / "sys/kernel/yama/ptrace_scope").write_text(f"{scope}\n")


def explain(proc: Path, own_uid: int) -> str:
    return str(explain_refusal(PID, str(proc), own_uid))


def test_yama_scope(tmp_path: Path) -> None:
    own_uid = os.geteuid()
    add(tmp_path, os.getpid(), own_uid)
    add(tmp_path, PID, own_uid)
    set_yama_scope(tmp_path, 1)
    assert explain(tmp_path, own_uid) == (
        "Cannot attach to pid 4101: the kernel forbids it (kernel.yama.ptrace_scope is 1). The job was not touched.\n"
        "Start it with `python -m distdbg run …` or DISTDBG=1, or allow attaching: sysctl kernel.yama.ptrace_scope=0"
    )


def test_yama_scope_that_holds_for_root_too(tmp_path: Path) -> None:
    own_uid = os.geteuid()
    add(tmp_path, os.getpid(), own_uid, CAP_SYS_PTRACE)
    add(tmp_path, PID, own_uid)
    set_yama_scope(tmp_path, 3)
    assert "scope 3 cannot be lowered until the next boot" in explain(tmp_path, own_uid)


def test_process_of_another_user(tmp_path: Path) -> None:
    add(tmp_path, os.getpid(), 123456)
    add(tmp_path, PID, 123457)
    assert explain(tmp_path, 123456) == (
        "Cannot attach to pid 4101: it belongs to uid 123457, and you are uid 123456. The job was not touched.\n"
        "Attach as uid 123457 or as root."
    )


def test_root_of_a_container_without_the_capability(tmp_path: Path) -> None:
    add(tmp_path, os.getpid(), 0)
    add(tmp_path, PID, 123457)
    message = explain(tmp_path, 0)
    assert "root has no CAP_SYS_PTRACE in this container" in message
    assert "--cap-add=SYS_PTRACE" in message


def test_tracer_is_named(tmp_path: Path) -> None:
    add(tmp_path, 77, 0, Name="gdb")
    add(tmp_path, PID, 0, TracerPid="77")
    assert "pid 77 (gdb) already traces it" in explain(tmp_path, 0)


@pytest.mark.parametrize("capabilities", [0, CAP_SYS_PTRACE])
def test_a_refusal_without_a_known_reason(tmp_path: Path, capabilities: int) -> None:
    own_uid = os.geteuid()
    add(tmp_path, os.getpid(), own_uid, capabilities)
    add(tmp_path, PID, own_uid)
    assert "probably a container or security profile" in explain(tmp_path, own_uid)


def test_gone_meanwhile(tmp_path: Path) -> None:
    assert isinstance(explain_refusal(PID, str(tmp_path)), ProcessGone)
