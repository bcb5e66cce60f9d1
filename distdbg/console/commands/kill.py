"""`kill`: end the job."""

from __future__ import annotations

from distdbg.console.console import Console
from distdbg.console.registry import command
from distdbg.console.report import Report
from distdbg.reporters.view import text
from distdbg.schema.ranks import format_ranks


@command("kill", aliases=("k",), family="run")
def kill(console: Console) -> Report:
    """End every rank of the job, after asking."""
    ranks = console.session.context().ranks
    if not console.confirm(f"Kill all {len(ranks)} ranks of the job?"):
        return Report(text("Nothing killed."))
    console.session.kill()
    console.is_done = True
    return Report(text(f"Killed: ranks {format_ranks(ranks)}."), [(ranks, {"killed": True})], ranks)
