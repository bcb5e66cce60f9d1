"""Which function answers which request."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, TypeVar, cast

from distdbg.errors import DistdbgError
from distdbg.probes.context import Context
from distdbg.schema.message import Reply, Request

Needs = Literal["value", "metadata"]
RequestT = TypeVar("RequestT", bound=Request)
ReplyT = TypeVar("ReplyT", bound=Reply)


class Probe(NamedTuple):
    """`function(request, context)`; a value probe belongs on the parked training thread, or its reply is live."""

    function: Callable[[Any, Context], Reply]
    needs: Needs


PROBES: dict[type[Request], Probe] = {}


def probe(
    request: type[RequestT], *, needs: Needs
) -> Callable[[Callable[[RequestT, Context], ReplyT]], Callable[[RequestT, Context], ReplyT]]:
    """Register the decorated function as the one that answers `request`."""

    def register(function: Callable[[RequestT, Context], ReplyT]) -> Callable[[RequestT, Context], ReplyT]:
        assert request not in PROBES, f"two probes answer {request.__name__}"
        PROBES[request] = Probe(cast("Callable[[Any, Context], Reply]", function), needs)
        return function

    return register


def run_probe(request: Request, context: Context) -> Reply:
    """Answer a request. Raises nothing but DistdbgError: whatever else goes wrong is wrapped in one that says where."""
    found = PROBES.get(type(request))
    if found is None:
        raise DistdbgError(f"This agent has no probe for {type(request).__name__}.")
    try:
        return found.function(request, context)
    except DistdbgError:
        raise
    except Exception as error:
        name = found.function.__name__
        raise DistdbgError(f"{name} failed in this rank: {type(error).__name__}: {error}") from error
