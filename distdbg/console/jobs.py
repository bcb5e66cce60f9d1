"""`python -m distdbg jobs`: the jobs of this machine."""

from __future__ import annotations

import sys

import msgspec

from distdbg.client.attach import list_jobs
from distdbg.reporters.terminal import detect
from distdbg.reporters.text import draw
from distdbg.reporters.units import duration, plural
from distdbg.reporters.view import Column, Span, Table
from distdbg.schema.ranks import format_ranks


def main(is_json: bool) -> int:
    """List the jobs; one JSON object per line with `is_json`. Exit status 0 even when there are none."""
    jobs = list_jobs()
    if is_json:
        for job in jobs:
            listing = {
                "id": job.id,
                "script": job.script,
                "ranks": sorted(job.ranks),
                "world_size": job.world_size,
                "pids": list(job.pids),
                "run_id": job.run_id,
                "uptime_s": job.uptime_s,
                "is_prepared": job.is_prepared,
            }
            sys.stdout.write(msgspec.json.encode(listing).decode() + "\n")
        return 0
    terminal = detect(sys.stdout)
    if not jobs:
        sys.stdout.write("No torch.distributed job of yours runs on this machine.\n")
        return 0
    table = Table("job", "script", "ranks", "pids", Column("up", "right"), "", "run id")
    for job in jobs:
        here = plural(job.world_size, "rank")
        if len(job.ranks) != job.world_size:
            here = f"{format_ranks(job.ranks)} of {job.world_size}"
        state = "agent on" if job.is_prepared else "not prepared"
        pids = "pid " if len(job.pids) == 1 else "pids "
        table.add(
            Span(job.id, "title"), job.script, here, pids + format_ranks(job.pids), duration(job.uptime_s), state,
            job.run_id,
        )  # fmt: skip
    sys.stdout.write(draw(table, terminal) + "\n")
    return 0
