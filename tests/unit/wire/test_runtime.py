"""The runtime directory is private or refused, and what is in it is whole or not there."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

import msgspec
import pytest

from distdbg.errors import NotPermitted
from distdbg.wire import runtime
from distdbg.wire.runtime import Record, read_records, remove_traces, runtime_dir, write_record


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DISTDBG_RUNTIME_DIR", str(tmp_path))
    return tmp_path


def record(pid: int | None = None, **fields: object) -> Record:
    known = {"rank": 0, "world_size": 2, "run_id": "r", "socket": "/x/1.sock", "started": 1.5, "is_prepared": True}
    return Record(pid=os.getpid() if pid is None else pid, **{**known, **fields})  # type: ignore[arg-type]


def dead_pid() -> int:
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


# ---- the directory --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("umask", [0o022, 0o000, 0o077])
def test_it_is_made_private_whatever_the_umask(base: Path, umask: int) -> None:
    former = os.umask(umask)
    try:
        path = runtime_dir()
    finally:
        os.umask(former)
    assert path == base / "distdbg"
    assert stat.S_IMODE(path.stat().st_mode) == 0o700
    assert runtime_dir() == path


def test_our_variable_comes_before_the_desktops(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = tmp_path / "xdg"
    other.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(other))
    assert runtime_dir() == base / "distdbg"
    monkeypatch.delenv("DISTDBG_RUNTIME_DIR")
    assert runtime_dir() == other / "distdbg"


@pytest.mark.parametrize("mode", [0o750, 0o770, 0o701, 0o720, 0o777])
def test_a_directory_that_others_can_enter_is_refused(base: Path, mode: int) -> None:
    path = base / "distdbg"
    path.mkdir()
    path.chmod(mode)
    with pytest.raises(NotPermitted) as raised:
        runtime_dir()
    expected = f"{path} is not a private directory of user {os.getuid()}: remove it or set XDG_RUNTIME_DIR."
    assert str(raised.value) == expected


def test_a_link_to_a_private_directory_is_refused(base: Path, tmp_path: Path) -> None:
    target = tmp_path / "elsewhere"
    target.mkdir(mode=0o700)
    (base / "distdbg").symlink_to(target)
    with pytest.raises(NotPermitted):
        runtime_dir()


def test_a_link_to_nowhere_is_refused(base: Path) -> None:
    (base / "distdbg").symlink_to(base / "nowhere")
    with pytest.raises(NotPermitted):
        runtime_dir()
    assert not (base / "nowhere").exists()


def test_a_file_in_its_place_is_refused(base: Path) -> None:
    (base / "distdbg").touch(mode=0o600)
    with pytest.raises(NotPermitted):
        runtime_dir()


def test_a_foreign_directory_is_refused(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runtime_dir()
    me = os.getuid()
    monkeypatch.setattr(runtime.os, "getuid", lambda: me + 1)
    with pytest.raises(NotPermitted, match=f"not a private directory of user {me + 1}"):
        runtime_dir()


# ---- records --------------------------------------------------------------------------------------------------------


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    written = record(rank=3, error="why", is_prepared=False)
    path = write_record(tmp_path, written)
    assert read_records(tmp_path) == [written]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [one.name for one in tmp_path.iterdir()] == [f"{os.getpid()}.json"]


def test_a_second_record_replaces_the_first(tmp_path: Path) -> None:
    write_record(tmp_path, record(error="no group yet"))
    write_record(tmp_path, record())
    assert read_records(tmp_path) == [record()]


def test_a_record_is_never_seen_in_half(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def seen_before_the_rename(self: Path, target: Path) -> Path:
        assert read_records(tmp_path) == []
        assert stat.S_IMODE(self.stat().st_mode) == 0o600
        os.rename(self, target)
        return target

    monkeypatch.setattr(Path, "rename", seen_before_the_rename)
    write_record(tmp_path, record())
    assert read_records(tmp_path) == [record()]


def test_records_of_dead_processes_are_skipped(tmp_path: Path) -> None:
    write_record(tmp_path, record(dead_pid()))
    write_record(tmp_path, record())
    assert read_records(tmp_path) == [record()]


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b'{"pid": "1"}', b"\xff\xfe", b'{"run_id": "\xff"}', b'{"pid": 1}'])
def test_broken_records_hide_no_other(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "0.json").write_bytes(text)
    write_record(tmp_path, record())
    assert read_records(tmp_path) == [record()]


def test_a_directory_in_the_place_of_a_record_is_skipped(tmp_path: Path) -> None:
    (tmp_path / "5.json").mkdir()
    assert read_records(tmp_path) == []


def test_a_newer_field_is_no_error(tmp_path: Path) -> None:
    built = {**msgspec.to_builtins(record()), "colour": "red"}
    (tmp_path / "1.json").write_bytes(msgspec.json.encode(built))
    assert read_records(tmp_path) == [record()]


def test_traces_are_removed_once_and_again(tmp_path: Path) -> None:
    left = record(socket=str(tmp_path / f"{os.getpid()}.sock"))
    write_record(tmp_path, left)
    Path(left.socket).touch()
    (tmp_path / "other.json").touch()
    remove_traces(left)
    remove_traces(left)
    assert [path.name for path in tmp_path.iterdir()] == ["other.json"]
