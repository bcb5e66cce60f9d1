"""`modules`: the tree of modules with their sizes."""

from __future__ import annotations

from distdbg.console.answers import clusters_of, replies_of, report_answers
from distdbg.console.console import Console
from distdbg.console.module_tree import Line, fold
from distdbg.console.registry import command
from distdbg.console.report import Report
from distdbg.console.syntax import ModulePattern
from distdbg.reporters.units import count, size, size_range
from distdbg.reporters.view import Column, Span, Tree, View, ranks_span, stack, text
from distdbg.schema.message import ListModules, Modules
from distdbg.schema.ranks import Ranks
from distdbg.schema.tensor import Module


@command("modules", family="ranks")
def modules(console: Console, pattern: ModulePattern = "", *, depth: int = 0, all: bool = False) -> Report:
    """Show the modules: class, parameters, bytes of all and per rank.

    Equal numbered siblings (the layers) share a line; --all shows each. --depth N goes N levels down.

        modules
        modules *attention
        modules --depth 2
    """
    gathered = console.session.ask(ListModules(pattern=pattern))
    clusters = clusters_of(gathered, Modules)
    replies = replies_of(gathered, Modules)
    per_rank: dict[str, list[int]] = {}
    for reply in replies.values():
        for module in reply.modules:
            per_rank.setdefault(module.fqn, []).append(module.local_bytes)
    trees = clusters_of(gathered, Modules, key=_identity)
    views: list[View] = []
    for cluster in trees:
        if len(trees) > 1:
            views.append(text(("ranks ", ranks_span(cluster.ranks))))
        lines = fold(list(cluster.answer.modules), is_folding=not all and not pattern)
        views.append(_tree(lines, depth, per_rank))
    data: list[tuple[Ranks, object]] = [(each.ranks, [_data(m) for m in each.answer.modules]) for each in clusters]
    return report_answers(stack(*views), gathered, data)


def _identity(reply: Modules) -> object:
    return tuple((module.fqn, module.class_name, module.num_params) for module in reply.modules)


def _tree(lines: list[Line], depth: int, per_rank: dict[str, list[int]]) -> Tree:
    right = [Column(title, "right") for title in ("parameters", "global", "per rank")]
    tree = Tree("class", *right, "")
    for line in lines:
        if depth and line.depth > depth:
            continue
        module = line.module
        sizes = (
            count(module.num_params),
            size(module.global_bytes),
            size_range(per_rank[module.fqn]),
        )
        name = Span(line.label or "(root)", "title" if line.depth == 0 else "")
        tree.add(line.depth, name, module.class_name, *(sizes if module.num_params else ()), *_wrapper(module, sizes))
    return tree


def _wrapper(module: Module, sizes: tuple[str, ...]) -> tuple[str, ...]:
    if not module.wrapper:
        return ()
    return (module.wrapper,) if module.num_params else ("",) * len(sizes) + (module.wrapper,)


def _data(module: Module) -> dict[str, object]:
    return {name: getattr(module, name) for name in module.__struct_fields__}
