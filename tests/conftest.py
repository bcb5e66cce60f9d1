"""Fixtures of the bench: every test has a runtime directory of its own, so that it sees no other test's job."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from distdbg.client.attach import attach
from distdbg.client.session import Session
from tests.bench import Job, run_job


@pytest.fixture
def jobs(tmp_path: Path) -> Iterator[Callable[..., AbstractContextManager[Job]]]:
    """`with jobs("ddp", nproc=2) as job:`; at the end no agent has left a file behind."""
    directory = tmp_path / "run"
    yield partial(run_job, runtime_dir=directory)
    left = [path for path in (directory / "distdbg").glob("*") if path.suffix in (".sock", ".json", ".partial")]
    assert not left, f"left behind: {left}"


def pytest_configure(config: Any) -> None:
    config.addinivalue_line("markers", "slow: takes more than ten seconds")


@pytest.fixture
def session(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Session]]:
    """`session(job)` attaches in this process, as a script would; detached at the end."""
    opened: list[Session] = []

    def open_session(job: Job, **options: Any) -> Session:
        monkeypatch.setenv("DISTDBG_RUNTIME_DIR", job.env["DISTDBG_RUNTIME_DIR"])
        opened.append(attach(pids=[job.launcher_pid], **options))
        return opened[-1]

    yield open_session
    for one in opened:
        one.detach()
