"""The test bench: real torchrun jobs and real consoles, told as stories.

with run_job("transformer_2d") as job:
    results = console(job, "break layer.0.attention", "continue", "print x.shape")
"""

from tests.bench.console import LiveConsole, Result, console
from tests.bench.job import Job, line_of, run_job

__all__ = ["Job", "LiveConsole", "Result", "console", "line_of", "run_job"]
