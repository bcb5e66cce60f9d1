"""What `/proc` says about one process. Every function takes the proc root, so that a test can make one up."""

from __future__ import annotations

import os
import pwd
from dataclasses import dataclass
from pathlib import Path

PROC = "/proc"


@dataclass(frozen=True)
class Mapping:
    """One line of `/proc/PID/maps`."""

    start: int
    end: int
    protection: str
    offset: int
    path: str

    @property
    def name(self) -> str:
        """The mapped file's own name, also when the file was replaced on disk since."""
        return os.path.basename(self.path.removesuffix(" (deleted)"))

    @property
    def is_executable(self) -> bool:
        return "x" in self.protection


@dataclass(frozen=True)
class ProcessStatus:
    """The lines of `/proc/PID/status` that decide whether we may attach."""

    name: str
    state: str
    parent_pid: int
    tracer_pid: int
    uid: int
    effective_capabilities: int


def read_mappings(pid: int, proc: str = PROC) -> list[Mapping]:
    """The memory map. Raises OSError: PermissionError when the process is not ours."""
    mappings = []
    for line in Path(proc, str(pid), "maps").read_text(errors="surrogateescape").splitlines():
        addresses, protection, offset, _device, _inode, *path = line.split(None, 5)
        start, end = addresses.split("-")
        mappings.append(Mapping(int(start, 16), int(end, 16), protection, int(offset, 16), path[0] if path else ""))
    return mappings


def read_mapped_names(pid: int, proc: str = PROC) -> set[str]:
    """Names of the mapped files: what `read_mappings` would tell, for a tenth of its time on a torch process."""
    text = Path(proc, str(pid), "maps").read_text(errors="surrogateescape")
    paths = {line[line.find("/") :] for line in text.splitlines() if "/" in line}
    return {os.path.basename(path.removesuffix(" (deleted)")) for path in paths}


def read_status(pid: int, proc: str = PROC) -> ProcessStatus:
    """Raises FileNotFoundError or ProcessLookupError when there is no such process."""
    fields: dict[str, str] = {}
    for line in Path(proc, str(pid), "status").read_text(errors="replace").splitlines():
        key, _, text = line.partition(":")
        fields[key] = text.strip()
    return ProcessStatus(
        name=fields.get("Name", "?"),
        state=fields.get("State", "?")[:1],
        parent_pid=int(fields.get("PPid", "0")),
        tracer_pid=int(fields.get("TracerPid", "0")),
        uid=int(fields.get("Uid", "0").split()[0]),
        effective_capabilities=int(fields.get("CapEff", "0"), 16),
    )


def read_environ(pid: int, proc: str = PROC) -> dict[str, str]:
    """The environment the process was *started* with: what it set itself since is not in it."""
    entries = Path(proc, str(pid), "environ").read_bytes().split(b"\0")
    pairs = (os.fsdecode(entry).partition("=") for entry in entries if b"=" in entry)
    return {name: text for name, _, text in pairs}


def read_command_line(pid: int, proc: str = PROC) -> list[str]:
    parts = Path(proc, str(pid), "cmdline").read_bytes().rstrip(b"\0").split(b"\0")
    return [os.fsdecode(part) for part in parts]


def read_executable(pid: int, proc: str = PROC) -> str:
    """Path of the running program as the process sees it (in its own mount namespace), '' if it has none."""
    try:
        return os.readlink(Path(proc, str(pid), "exe")).removesuffix(" (deleted)")
    except OSError:
        return ""


def read_start_time(pid: int, proc: str = PROC) -> float:
    """Unix time at which the process was started."""
    # The second field is the command in parentheses and may itself hold spaces and parentheses.
    after_name = Path(proc, str(pid), "stat").read_text(errors="replace").rpartition(")")[2].split()
    ticks_since_boot = int(after_name[19])
    for line in Path(proc, "stat").read_text().splitlines():
        if line.startswith("btime "):
            return int(line.split()[1]) + ticks_since_boot / os.sysconf("SC_CLK_TCK")
    return 0.0


def list_pids(proc: str = PROC) -> list[int]:
    return sorted(int(name) for name in os.listdir(proc) if name.isdigit())


def list_threads(pid: int, proc: str = PROC) -> list[int]:
    return sorted(int(name) for name in os.listdir(Path(proc, str(pid), "task")))


def describe_user(uid: int) -> str:
    """'alice', or 'uid 65534' where the number has no name (as in most containers)."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


def describe_exit(pid: int, proc: str = PROC) -> str:
    """How a process has ended, while its parent has not reaped it: `killed by signal 9`; else only that it has."""
    try:
        status = int(Path(proc, str(pid), "stat").read_text().rpartition(")")[2].split()[-1])
    except (OSError, ValueError, IndexError):
        return "its process has ended"
    if os.WIFSIGNALED(status):
        return f"killed by signal {os.WTERMSIG(status)}"
    return f"exited with status {os.WEXITSTATUS(status)}" if status else "exited"
