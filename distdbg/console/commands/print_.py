"""`print`: the value of an expression on each rank."""

from __future__ import annotations

from distdbg.console.commands.exec_ import evaluate
from distdbg.console.console import Console
from distdbg.console.registry import command
from distdbg.console.report import Report
from distdbg.console.syntax import Expression


@command("print", aliases=("p",), family="look")
def print_(console: Console, expression: Expression) -> Report:
    """Evaluate a Python expression on each rank in focus.
    On the stopped thread, with the names of the selected frame. Equal values share a line. An
    expression that would issue a collective on only some of its ranks is refused: it would hang the
    job.

        print x.shape
        @tp=1 print x.sum()
    """
    return evaluate(console, expression, "eval")
