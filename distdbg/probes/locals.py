"""Answers ReadLocals: what the requested frame of the parked thread holds."""

from __future__ import annotations

from distdbg.errors import NotStoppedError
from distdbg.probes.context import Context
from distdbg.probes.registry import probe
from distdbg.probes.summary import summarize
from distdbg.schema.message import Locals, ReadLocals


@probe(ReadLocals, needs="value")
def read_locals(request: ReadLocals, context: Context) -> Locals:
    """Each local with a short description. Raises NotStoppedError where no thread is parked."""
    if context.frame_locals is None:
        raise NotStoppedError("Locals are read at a stop: break MODULE first, or pause.")
    return Locals(tuple((name, summarize(value)) for name, value in list(context.frame_locals.items())))
