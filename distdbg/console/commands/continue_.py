"""`continue`: let the ranks go on to the next stop."""

from __future__ import annotations

from distdbg.console.console import Console
from distdbg.console.registry import command
from distdbg.console.report import Report
from distdbg.console.stopping import wait_for_stop
from distdbg.errors import UsageError


@command("continue", aliases=("c", "cont"), family="run", is_repeated=True)
def continue_(console: Console, count: int = 1) -> Report:
    """Let the ranks go on and wait for the next stop.
    continue N passes the breakpoint that holds them N-1 times before it stops again. Ctrl-C leaves the
    wait and lets the ranks run; pause stops them. @RANKS continue lets only these ranks go on: the
    others stay where they are, and a collective waits for them.
    """
    if count < 1:
        raise UsageError("N is at least 1.")
    session = console.session
    if count > 1:
        stops = [state.stop for state in session.states.values() if state.stop is not None]
        for id in {stop.breakpoint for stop in stops if stop.breakpoint in session.rules}:
            if id is not None:
                session.ignore(id, count - 1)
    if console.has_announced_stop():  # else the ranks run, or are still coming together at a stop: wait for it
        session.resume(console.prefix)
    return wait_for_stop(console)
