"""The rooms of the package: who may import whom, and what neither side ever loads.

Reads the source, so that a new file is covered before anything runs it.
"""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import distdbg
from distdbg import errors

PACKAGE = Path(distdbg.__file__).parent

MAY_IMPORT = {
    "schema": set(),
    "wire": {"schema"},
    "hooks": {"schema", "wire"},
    "probes": {"schema", "wire", "hooks"},
    "agent": {"schema", "wire", "hooks", "probes"},
    "client": {"schema", "wire"},
    "reporters": {"schema"},
    "console": {"schema", "wire", "client", "reporters"},
    "demo": set(),
    "keras": set(),
}
"""schema <- wire, hooks, probes <- agent; schema <- wire <- client <- console; schema <- reporters <- console."""

RANK_SIDE = ("schema", "wire", "hooks", "probes", "agent")
CONSOLE_SIDE = ("schema", "wire", "client", "reporters", "console")
ONLY_CONSOLE = ("prompt_toolkit", "pygments", "tabulate")


def files_of(*rooms: str) -> list[Path]:
    """Every source file of the rooms."""
    return sorted(path for room in rooms for path in (PACKAGE / room).rglob("*.py"))


def modules_of(*rooms: str) -> list[str]:
    """Their dotted names."""
    names = (path.relative_to(PACKAGE.parent).with_suffix("").as_posix() for path in files_of(*rooms))
    return [name.removesuffix("/__init__").replace("/", ".") for name in names]


def imports_of(path: Path) -> set[str]:
    """Dotted names that a file imports anywhere in it, but for those under `if TYPE_CHECKING`."""
    found: set[str] = set()
    todo: list[ast.AST] = [ast.parse(path.read_text(), str(path))]
    package = path.relative_to(PACKAGE.parent).parent.parts
    while todo:
        node = todo.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            todo += node.orelse
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            base = ".".join([*above, *([node.module] if node.module else [])])
            found |= {base} | {f"{base}.{alias.name}" for alias in node.names}
        todo += ast.iter_child_nodes(node)
    return found


def rooms_imported(path: Path) -> set[str]:
    """The rooms of ours that a file imports from, its own left out."""
    names = (name.split(".") for name in imports_of(path) if name.startswith("distdbg."))
    rooms = {parts[1] for parts in names}
    own = path.relative_to(PACKAGE).parts[0]
    return {room for room in rooms if (PACKAGE / room).is_dir()} - {own}


def test_every_room_is_known() -> None:
    rooms = {path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert rooms - {"site"} <= set(MAY_IMPORT), "a new room: say in MAY_IMPORT what it may import"


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_imports_run_one_way(room: str) -> None:
    wrong = {
        str(path.relative_to(PACKAGE.parent)): sorted(bad)
        for path in files_of(room)
        if (bad := rooms_imported(path) - MAY_IMPORT[room])
    }
    assert not wrong, f"{room} may import from {sorted(MAY_IMPORT[room]) or 'no room'} only"


def test_errors_import_nothing_of_ours() -> None:
    assert not {name for name in imports_of(PACKAGE / "errors.py") if name.startswith("distdbg")}


@pytest.mark.parametrize("room", RANK_SIDE)
def test_rank_side_names_no_console_library(room: str) -> None:
    for path in files_of(room):
        tops = {name.split(".")[0] for name in imports_of(path)}
        assert tops.isdisjoint(ONLY_CONSOLE), path


@pytest.mark.parametrize("room", CONSOLE_SIDE)
def test_console_side_names_no_torch(room: str) -> None:
    for path in files_of(room):
        assert "torch" not in {name.split(".")[0] for name in imports_of(path)}, path


def loaded_after_importing(modules: list[str]) -> set[str]:
    """Top-level modules in a fresh interpreter that has imported these."""
    program = f"import sys, importlib\nfor name in {modules!r}: importlib.import_module(name)\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return {name.split(".")[0] for name in done.stdout.split()}


def test_console_side_never_loads_torch() -> None:
    modules = ["distdbg.__main__", *modules_of(*CONSOLE_SIDE)]
    modules.remove("distdbg.client.inject.in_gdb")  # runs in gdb's own Python
    assert "torch" not in loaded_after_importing(modules)


def test_rank_side_never_loads_console_libraries() -> None:
    assert loaded_after_importing(modules_of(*RANK_SIDE)).isdisjoint(ONLY_CONSOLE)


def test_package_itself_loads_nothing_heavy() -> None:
    heavy = {"torch", "zmq", "msgspec", *ONLY_CONSOLE}
    assert loaded_after_importing(["distdbg"]).isdisjoint(heavy)


def error_classes() -> dict[str, type[Exception]]:
    """Every exception that errors.py defines."""
    members = vars(errors).items()
    return {name: value for name, value in members if inspect.isclass(value) and value.__module__ == errors.__name__}


def test_all_of_errors_is_exact() -> None:
    assert errors.__all__ == sorted(error_classes())


def test_error_tree_in_the_docstring_is_the_real_one() -> None:
    drawn: list[tuple[str, str | None]] = []
    parents: dict[int, str] = {}
    for line in (errors.__doc__ or "").splitlines():
        match = re.match(r"^(?P<stem>[ │├└─]*)(?P<name>[A-Z]\w+)(\s{2,}|$)", line)
        if match:
            parents[len(match["stem"])] = match["name"]
            above = [depth for depth in parents if depth < len(match["stem"])]
            drawn.append((match["name"], parents[max(above)] if above else None))
            parents = {depth: name for depth, name in parents.items() if depth <= len(match["stem"])}
    real = {name: kind.__bases__[0].__name__ for name, kind in error_classes().items()}
    real["DistdbgError"] = None  # type: ignore[assignment]
    assert dict(drawn) == real
    assert len(drawn) == len(real)
