"""Why we may not attach to a process, in words a user can act on."""

from __future__ import annotations

import os
from pathlib import Path

from distdbg.client.procfs import PROC, ProcessStatus, describe_user, read_status
from distdbg.errors import AttachError, InjectionFailed, NotPermitted, ProcessGone

_CAP_SYS_PTRACE = 1 << 19
_UNTOUCHED = "The job was not touched."
PREPARE = "Start it with `python -m distdbg run …` or DISTDBG=1"


def check_state(pid: int, proc: str = PROC) -> ProcessStatus:
    """Refuse what no right could change: gone, a zombie, stopped, or in another debugger's hands."""
    try:
        status = read_status(pid, proc)
    except (FileNotFoundError, ProcessLookupError) as error:
        raise ProcessGone(
            f"There is no process {pid} on this host. `python -m distdbg jobs` lists what runs."
        ) from error
    if status.state in "ZX":
        raise ProcessGone(
            f"Process {pid} ({status.name}) has ended: it is a zombie that its parent"
            f" (pid {status.parent_pid}) has not reaped yet."
        )
    if status.tracer_pid:
        raise NotPermitted(
            f"Cannot attach to pid {pid}: pid {status.tracer_pid} ({_name(status.tracer_pid, proc)}) already"
            f" traces it, and the kernel allows one tracer. {_UNTOUCHED}\nDetach that one first."
        )
    if status.state == "T":
        raise InjectionFailed(
            f"Process {pid} ({status.name}) is stopped by a signal (SIGSTOP or Ctrl-Z), so nothing can run"
            f" in it. {_UNTOUCHED}\nLet it go on with `kill -CONT {pid}`, then attach again."
        )
    return status


def explain_refusal(pid: int, proc: str = PROC, own_uid: int | None = None) -> AttachError:
    """The error to raise after the kernel said EPERM or EACCES for `pid`."""
    try:
        status = check_state(pid, proc)
    except AttachError as better:
        return better
    own_uid = os.geteuid() if own_uid is None else own_uid
    is_capable = bool(read_status(os.getpid(), proc).effective_capabilities & _CAP_SYS_PTRACE)
    scope = _yama_scope(proc)

    if status.uid != own_uid and not is_capable:
        if own_uid == 0:
            return NotPermitted(
                f"Cannot attach to pid {pid} of {describe_user(status.uid)}: root has no CAP_SYS_PTRACE in"
                f" this container. {_UNTOUCHED}\nStart the container with --cap-add=SYS_PTRACE, or attach as that"
                " user."
            )
        owner = describe_user(status.uid)
        return NotPermitted(
            f"Cannot attach to pid {pid}: it belongs to {owner}, and you are {describe_user(own_uid)}."
            f" {_UNTOUCHED}\nAttach as {owner}{'' if status.uid == 0 else ' or as root'}."
        )
    if scope == 3 or (scope and not is_capable):
        return NotPermitted(
            f"Cannot attach to pid {pid}: the kernel forbids it (kernel.yama.ptrace_scope is {scope})."
            f" {_UNTOUCHED}\n{PREPARE}" + _yama_remedy(scope)
        )
    if not is_capable and _is_undumpable(pid, status.uid, proc):
        return NotPermitted(
            f"Cannot attach to pid {pid}: it has marked itself as not to be traced (setuid program or"
            f" prctl(PR_SET_DUMPABLE)). {_UNTOUCHED}\nAttach as root."
        )
    return NotPermitted(
        f"Cannot attach to pid {pid}: the kernel forbids it, probably a container or security profile without"
        f" ptrace. {_UNTOUCHED}\n{PREPARE}, or start the container with --cap-add=SYS_PTRACE."
    )


def _yama_scope(proc: str) -> int:
    try:
        return int(Path(proc, "sys/kernel/yama/ptrace_scope").read_text())
    except (OSError, ValueError):
        return 0


def _yama_remedy(scope: int) -> str:
    if scope == 3:
        return " (scope 3 cannot be lowered until the next boot)."
    return ", or allow attaching: sysctl kernel.yama.ptrace_scope=0"


def _is_undumpable(pid: int, uid: int, proc: str) -> bool:
    # The kernel gives the files of such a process to root.
    try:
        return os.stat(Path(proc, str(pid), "environ")).st_uid != uid
    except OSError:
        return True


def _name(pid: int, proc: str) -> str:
    try:
        return read_status(pid, proc).name
    except OSError:
        return "unknown"
