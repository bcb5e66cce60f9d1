"""`python -m distdbg attach`: a session, then a prompt or a script on it."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import signal
import sys
import threading
from types import FrameType

from distdbg.client.attach import attach
from distdbg.console import batch
from distdbg.console.console import Console
from distdbg.console.output import JsonOutput, TextOutput
from distdbg.console.pager import page
from distdbg.console.settings import Settings


def main(arguments: argparse.Namespace) -> int:
    """Attach as the arguments say, run, detach; returns the exit status."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _leave)
    is_interactive = sys.stdin.isatty() and sys.stdout.isatty() and not arguments.batch and not arguments.json
    settings = Settings(timeout=arguments.timeout or 0.0)
    if is_interactive:  # while the agents come up, which is mostly waiting
        threading.Thread(target=_import_prompt, daemon=True).start()
    session = attach(
        arguments.job,
        pids=arguments.pid,
        ranks=arguments.ranks,
        lease_s=arguments.lease,
        on_disconnect=arguments.on_disconnect,
        timeout_s=arguments.timeout or 30.0,
    )
    output = JsonOutput() if arguments.json else TextOutput(settings, page=page if is_interactive else None)
    console = Console(session, output, settings)
    console.is_interactive = is_interactive
    status = None
    try:
        console.output.greet(session)
        batch.run_steps(console, arguments.steps)
        if is_interactive and not console.is_done:
            from distdbg.console.prompt import run_prompt

            run_prompt(console)
            status = 0
        elif not arguments.batch and not console.is_done:
            batch.run_stdin(console)
    except KeyboardInterrupt:
        status = 130
    finally:
        left = batch.finish(console)
    return left if status is None else status


def _import_prompt() -> None:
    with contextlib.suppress(ImportError):  # it is said where the prompt is opened
        importlib.import_module("distdbg.console.prompt")


def _leave(number: int, frame: FrameType | None) -> None:
    """Leave by the ordinary way, so that the job is let go."""
    signal.signal(number, signal.SIG_IGN)
    raise SystemExit(128 + number)
