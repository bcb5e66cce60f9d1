"""`!`: a line of Python in the console's own process."""

from __future__ import annotations

import contextlib
import io
import traceback

from distdbg.console.console import Console
from distdbg.console.registry import command
from distdbg.console.report import Report
from distdbg.console.syntax import Statement
from distdbg.errors import EvaluationError
from distdbg.reporters.view import text


@command("!", aliases=("python",), family="other")
def python(console: Console, statement: Statement) -> Report:
    """Evaluate a line of Python in the console, not in the job.

    session and console are in scope.

    !session.states[0].iteration
    !len(session.names().modules)
    """
    scope = {"session": console.session, "console": console, "__name__": "distdbg_console"}
    written = io.StringIO()
    try:
        with contextlib.redirect_stdout(written):
            exec(compile(statement, "<console>", "single"), console.scope | scope, console.scope)  # noqa: S102
    except Exception as error:
        raise EvaluationError(traceback.format_exception_only(error)[-1].strip()) from error
    shown = written.getvalue().rstrip("\n")
    return Report(text(*shown.split("\n")) if shown else text(), [(console.session.focus, {"repr": shown})])
