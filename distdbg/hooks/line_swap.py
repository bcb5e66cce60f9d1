"""Line breakpoints by exchanging a function's code (Python 3.10 and 3.11, which have no `sys.monitoring`).

The file is compiled once more with a call inserted before the statement, and every function object that has the
original code gets the new code; functions and closures stay the same objects. What runs already keeps its old code
until its next call. Standard library only.
"""

from __future__ import annotations

import ast
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from types import CodeType, FrameType

from distdbg.errors import UsageError
from distdbg.hooks.line_source import Statement, read_tree, statements
from distdbg.hooks.line_target import loaded_functions, nested_codes

Reach = Callable[[FrameType], None]


class Probe:
    """A constant of the new code, so that frames which outlive the breakpoint still find something to call."""

    __slots__ = ("reaches",)

    def __init__(self) -> None:
        self.reaches: list[Reach] = []

    def reach(self) -> None:
        """Called by the job's code."""
        for one in tuple(self.reaches):
            one(sys._getframe(1))


@dataclass
class _Swap:
    """One code object of the program, the probes in it by line, and what stands in for it."""

    code: CodeType
    probes: dict[int, Probe] = field(default_factory=dict)
    patched: CodeType | None = None


_lock = threading.RLock()
_swaps: dict[int, _Swap] = {}
_originals: dict[int, tuple[CodeType, CodeType]] = {}
"""Ours by id -> (ours, the program's own that it stands in for)."""


def original(code: CodeType) -> CodeType:
    """The program's own code for one of ours; any other code as it is."""
    return _originals.get(id(code), (code, code))[1]


def find_code(tree: ast.Module, file: str, statement: Statement, codes: list[CodeType]) -> list[CodeType]:
    """The live code (of `codes`) that the statement is in. Raises UsageError when the file is not what runs."""
    compiled = _compile(tree, file)
    wanted = _code_of(compiled, statement)
    found = [code for code in codes if code == wanted]
    if not found:
        raise UsageError(f"{file} is not what runs: {wanted.co_name} was changed, or rewritten on import.")
    return found


def watch(code: CodeType, statement: Statement, reach: Reach) -> Callable[[], None]:
    """Call `reach(frame)` right before the statement of `code` runs, until what is returned is called."""
    line = statement.node.lineno
    with _lock:
        swap = _swaps.setdefault(id(code), _Swap(code))
        try:
            if line not in swap.probes:
                swap.patched = _patch(code, {**swap.probes, line: Probe()}, swap.probes)
        except BaseException:
            if not swap.probes:
                del _swaps[id(code)]
            raise
        swap.probes[line].reaches.append(reach)
        _apply(code.co_filename)

    def close() -> None:
        with _lock:
            probe = swap.probes.get(line)
            if probe is None or reach not in probe.reaches:
                return
            probe.reaches.remove(reach)
            if not probe.reaches:
                del swap.probes[line]
                if swap.probes:
                    swap.patched = _patch(code, swap.probes, swap.probes)
                else:
                    del _swaps[id(code)]
                _apply(code.co_filename)

    return close


def _patch(code: CodeType, probes: dict[int, Probe], into: dict[int, Probe]) -> CodeType:
    """The code with a call of each line's probe; the probes are put `into` the swap once it is there."""
    tree = read_tree(code.co_filename)
    by_name = {f"distdbg probe of line {line}": probe for line, probe in probes.items()}
    path = _path_to(_compile(tree, code.co_filename), code)
    for statement in statements(tree):
        function = statement.function
        if function is not None and statement.node.lineno in probes and _starts(function, code):
            _insert(statement)
    patched = _compile(tree, code.co_filename)
    for index in path:
        patched = _children(patched)[index]
    into.update(probes)
    constants = (by_name.get(one, one) if isinstance(one, str) else one for one in patched.co_consts)
    return patched.replace(co_consts=tuple(constants))


def _insert(statement: Statement) -> None:
    node = statement.node
    # An attribute of a string constant: no name is looked up that the program could lack or shadow, and the string is
    # exchanged for the probe afterwards.
    call: ast.expr = ast.parse(f"'distdbg probe of line {node.lineno}'.reach()", mode="eval").body
    for part in ast.walk(call):
        if isinstance(part, ast.expr):
            ast.copy_location(part, node)
            part.end_lineno, part.end_col_offset = part.lineno, part.col_offset
    if isinstance(node, ast.While):  # its line runs before every round
        both = ast.Tuple(elts=[call, node.test], ctx=ast.Load())
        second = ast.Subscript(value=both, slice=ast.Constant(value=1), ctx=ast.Load())
        node.test = ast.fix_missing_locations(ast.copy_location(second, node.test))
    elif not any(_is_probe(sibling, node.lineno) for sibling in statement.siblings):  # `a; b` stops once
        expression = ast.copy_location(ast.Expr(value=call), call)
        statement.siblings.insert(statement.siblings.index(node), expression)


def _is_probe(node: ast.stmt, line: int) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Call)
        and node.value.end_lineno == line
        and (
            isinstance(node.value.func, ast.Attribute)
            and isinstance(node.value.func.value, ast.Constant)
            and node.value.func.value.value == f"distdbg probe of line {line}"
        )
    )


def _starts(function: ast.FunctionDef | ast.AsyncFunctionDef, code: CodeType) -> bool:
    first = min([function.lineno, *(decorator.lineno for decorator in function.decorator_list)])
    return function.name == code.co_name and first == code.co_firstlineno


def _compile(tree: ast.Module, file: str) -> CodeType:
    """The way the import system compiles it: nothing is inherited from this module."""
    compiled: CodeType = compile(tree, file, "exec", dont_inherit=True)
    return compiled


def _code_of(compiled: CodeType, statement: Statement) -> CodeType:
    function = statement.function
    if function is None:
        return compiled
    for code in nested_codes(compiled):
        if _starts(function, code):
            return code
    raise UsageError(f"{compiled.co_filename}: {function.name} is compiled away.")


def _children(code: CodeType) -> list[CodeType]:
    return [constant for constant in code.co_consts if isinstance(constant, CodeType)]


def _path_to(root: CodeType, code: CodeType) -> list[int]:
    """Which child to take at each level to come from the module's code to one that equals `code`."""
    todo: list[tuple[CodeType, list[int]]] = [(root, [])]
    while todo:
        found, path = todo.pop()
        if found == code:
            return path
        todo += [(child, [*path, index]) for index, child in enumerate(_children(found))]
    raise UsageError(f"{code.co_filename} is not what runs: {code.co_name} was changed, or rewritten on import.")


def _apply(file: str) -> None:
    """Give every function of the file the code that it should have now: ours, or its own object again."""
    rebuilt: dict[int, CodeType] = {}
    for function in loaded_functions():
        if function.__code__.co_filename == file:
            own = original(function.__code__)
            code = rebuilt.setdefault(id(own), _rebuild(own))
            if function.__code__ is not code:
                function.__code__ = code
    if not _swaps:
        _originals.clear()


def _rebuild(own: CodeType) -> CodeType:
    """The program's code with swapped code in place, at any depth: inner functions come from outer constants."""
    swap = _swaps.get(id(own))
    base = swap.patched if swap is not None and swap.patched is not None else own
    children = iter([(child, _rebuild(child)) for child in _children(own)])
    constants = []
    is_changed = base is not own
    for constant in base.co_consts:
        if isinstance(constant, CodeType):
            child, constant = next(children)
            is_changed = is_changed or constant is not child
        constants.append(constant)
    if not is_changed:
        return own
    code = base.replace(co_consts=tuple(constants))
    _originals[id(code)] = (code, own)
    return code
