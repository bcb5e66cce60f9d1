"""Answers DescribeTensors."""

from __future__ import annotations

from distdbg.probes.context import Context
from distdbg.probes.registry import probe
from distdbg.probes.resolve import resolve
from distdbg.probes.tensor import describe
from distdbg.schema.message import DescribeTensors, Tensors


@probe(DescribeTensors, needs="value")
def describe_tensors(request: DescribeTensors, context: Context) -> Tensors:
    """Describe what the name means, in definition order; `live` only where elements were read from a running rank."""
    live = context.live and request.with_stats
    found = resolve(request.name, context)
    return Tensors(tuple(describe(held, with_stats=request.with_stats, live=live) for held in found))
