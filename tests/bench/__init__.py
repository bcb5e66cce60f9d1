"""The test bench: real torchrun jobs and real consoles, told as stories.

    with run_job("transformer_2d") as job:
        results = console(job, "break layer.0.attention", "continue", "print x.shape")
"""

from tests.bench.console import Result, console
from tests.bench.job import Job, run_job

__all__ = ["Job", "Result", "console", "run_job"]
