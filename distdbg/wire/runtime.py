"""The runtime directory: private, one per user; in it a socket and a record for each rank's agent."""

from __future__ import annotations

import contextlib
import os
import stat
import sys
import tempfile
from pathlib import Path

import msgspec

from distdbg.errors import NotPermitted


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """An agent that listens: where, and which process it is (`started` guards against a reused pid)."""

    pid: int
    rank: int
    world_size: int
    run_id: str
    socket: str
    started: float
    is_prepared: bool
    error: str = ""


def runtime_dir(uid: int | None = None) -> Path:
    """The user's directory (created, 0700). Raises NotPermitted when somebody else owns it or can enter it."""
    uid = os.getuid() if uid is None else uid
    base = os.environ.get("DISTDBG_RUNTIME_DIR") or os.environ.get("XDG_RUNTIME_DIR")
    if base and uid == os.getuid() and os.path.isdir(base):
        path = Path(base) / "distdbg"
    else:
        root = tempfile.gettempdir() if sys.platform == "darwin" else "/tmp"  # noqa: S108  (checked below)
        path = Path(root) / f"distdbg-{uid}"
    with contextlib.suppress(FileExistsError):
        path.mkdir(mode=0o700)
        if uid != os.getuid():
            os.chown(path, uid, -1)
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != uid or found.st_mode & 0o077:
        raise NotPermitted(f"{path} is not a private directory of user {uid}: remove it or set XDG_RUNTIME_DIR.")
    return path


def read_records(directory: Path) -> list[Record]:
    """Every readable record in the directory whose process is alive."""
    found: list[Record] = []
    for path in sorted(directory.glob("*.json")):
        with contextlib.suppress(OSError, UnicodeDecodeError, msgspec.MsgspecError):
            record = msgspec.json.decode(path.read_bytes(), type=Record)
            if os.path.exists(f"/proc/{record.pid}") or not os.path.isdir("/proc"):
                found.append(record)
    return found


def remove_traces(record: Record) -> None:
    """Take away what an agent left in the runtime directory that could not do so itself: its process was killed."""
    socket = Path(record.socket)
    socket.unlink(missing_ok=True)
    socket.with_suffix(".json").unlink(missing_ok=True)


def write_record(directory: Path, record: Record) -> Path:
    """Publish a record; it appears whole or not at all."""
    path = directory / f"{record.pid}.json"
    partial = path.with_suffix(".partial")
    partial.touch(mode=0o600)
    partial.write_bytes(msgspec.json.encode(record))
    partial.rename(path)
    return path
