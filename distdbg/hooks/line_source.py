"""What the source says about a line: the statement on it and the function that this is in. Standard library only."""

from __future__ import annotations

import ast
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass

from distdbg.errors import UsageError

Scope = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
FUNCTION = (ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass(frozen=True)
class Statement:
    """An executable statement: the lines of its header (all of a simple one), its scopes, outermost first."""

    node: ast.stmt
    siblings: list[ast.stmt]
    scopes: tuple[Scope, ...]
    first: int
    last: int

    @property
    def function(self) -> ast.FunctionDef | ast.AsyncFunctionDef | None:
        """The function whose code this is, None in the body of a module or class."""
        scope = self.scopes[-1] if self.scopes else None
        return scope if isinstance(scope, FUNCTION) else None


def read_tree(file: str) -> ast.Module:
    """The parsed file. Raises UsageError when there is none that can be read."""
    try:
        with tokenize.open(file) as source:
            return ast.parse(source.read(), file)
    except (OSError, SyntaxError, ValueError) as error:
        raise UsageError(f"The source of {file} cannot be read: {error}.") from error


def statements(tree: ast.Module) -> list[Statement]:
    """Every statement that runs code, in source order."""
    return sorted(_walk(tree.body, ()), key=lambda found: found.first)


def _walk(body: list[ast.stmt], scopes: tuple[Scope, ...]) -> Iterator[Statement]:
    for node in body:
        inner = [node, *getattr(node, "handlers", ()), *getattr(node, "cases", ())]
        bodies: list[list[ast.stmt]] = [
            getattr(part, name) for part in inner for name in ("body", "orelse", "finalbody") if hasattr(part, name)
        ]
        first = min([node.lineno, *(decorator.lineno for decorator in getattr(node, "decorator_list", ()))])
        last = bodies[0][0].lineno - 1 if bodies else node.end_lineno or node.lineno
        if not _is_silent(node, scopes):
            yield Statement(node, body, scopes, first, max(first, last))
        inside = (*scopes, node) if isinstance(node, Scope) else scopes
        for statements_inside in bodies:
            yield from _walk(statements_inside, inside)


def _is_silent(node: ast.stmt, scopes: tuple[Scope, ...]) -> bool:
    """Whether the compiler makes no code of it: docstrings, global, nonlocal, bare annotations of locals."""
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Constant)
    in_function = bool(scopes) and isinstance(scopes[-1], FUNCTION)
    if isinstance(node, ast.AnnAssign):
        return node.value is None and in_function and isinstance(node.target, ast.Name)
    return isinstance(node, ast.Global | ast.Nonlocal)


def statement_at(tree: ast.Module, line: int) -> Statement | None:
    """The statement whose lines have `line` among them; of a `def` line, the first statement of its function."""
    found = [statement for statement in statements(tree) if statement.first <= line <= statement.last]
    if not found:
        return None
    best = max(found, key=lambda statement: (statement.first, len(statement.scopes)))
    if isinstance(best.node, FUNCTION) and best.first < best.node.body[0].lineno:
        inside = [one for one in statements(tree) if best.node in one.scopes and one.function is best.node]
        return inside[0] if inside else None
    return best


def nearest_statement(tree: ast.Module, line: int) -> Statement | None:
    """For a line without code: the next statement of the function around it, else of any, else the last one."""
    candidates = [statement for statement in statements(tree) if statement.function is not None]
    around = [
        statement
        for statement in candidates
        if statement.function is not None and statement.function.lineno <= line <= (statement.function.end_lineno or 0)
    ]
    for group in (around, candidates):
        after = [statement for statement in group if statement.first >= line]
        if after:
            return after[0]
        if group:
            return group[-1]
    return None


def locate(tree: ast.Module, file: str, line: int) -> tuple[Statement, str]:
    """The statement to stop at, and a note where it is not on the line that was typed. Raises UsageError."""
    statement = statement_at(tree, line)
    if statement is None:
        statement = nearest_statement(tree, line)
    if statement is None:
        raise UsageError(f"{file} has no function: nothing in it runs again.")
    here = statement.node.lineno
    return statement, "" if here == line else f"line {line} has no code of its own, line {here} is the nearest that has"


def is_past(tree: ast.Module, statement: Statement, current: int) -> bool:
    """Whether a call that is at line `current` comes to the statement no more: no loop leads back."""
    if current <= statement.last:
        return False
    loops = (node for node in ast.walk(tree) if isinstance(node, ast.For | ast.AsyncFor | ast.While))
    return not any(
        loop.lineno <= statement.first and max(statement.last, current) <= (loop.end_lineno or 0) for loop in loops
    )
