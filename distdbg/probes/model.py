"""The modules of this rank by the names that the user gave them."""

from __future__ import annotations

import time
import weakref
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import nn

from distdbg.errors import AmbiguousName
from distdbg.probes.pattern import match_names, nearest_names, split_name, unknown_name
from distdbg.probes.scan import Scan
from distdbg.probes.wrapper import Unwrapped, children_of, choose_root_hook, class_name, unwrap

_MAX_DEPTH = 100
_HEAP_SCAN_PAUSE_S = 2.0


@dataclass(frozen=True, eq=False)
class Entry:
    """One module under its cleaned name. Strong references: let go of it when the answer is made.

    `outer` is what the parent holds, `module` the user's own module inside its wrappers (often the same object).
    """

    fqn: str
    module: nn.Module
    outer: nn.Module
    wrappers: tuple[nn.Module, ...]
    titles: tuple[str, ...]
    depth: int
    root: int

    @property
    def class_name(self) -> str:
        """The class as the user wrote it."""
        return class_name(self.module)


class ModelIndex:
    """Root modules and optimizers of this process, held weakly; every question walks them anew, so nothing is stale.

    A root is a module that is no other found module's child. The first root is the largest one that trains. With
    several roots (a GAN, an EMA copy) a name is prefixed with its root's label where more than one root has it.
    """

    def __init__(self, roots: Iterable[nn.Module] = ()) -> None:
        """Index `roots`, or find them at the first question."""
        self._roots: list[tuple[str, weakref.ref[nn.Module]]] = []
        self._optimizers: list[weakref.ref[torch.optim.Optimizer]] = []
        self._has_scanned_heap_at: float | None = None
        self._is_given = False
        given = [("", root) for root in roots]
        if given:
            self._is_given = True
            self._set_roots(given)

    def roots(self) -> list[tuple[str, nn.Module]]:
        """(label, root module as found, wrappers and all), the largest training one first."""
        alive = [(label, root) for label, ref in self._roots if (root := ref()) is not None]
        if not self._is_given and (not alive or len(alive) < len(self._roots)):
            self.refresh()
            alive = [(label, root) for label, ref in self._roots if (root := ref()) is not None]
        return alive

    @property
    def name(self) -> str:
        """Class name of the first root, or empty."""
        roots = self.roots()
        return class_name(unwrap(roots[0][1]).module) if roots else ""

    def refresh(self, *, is_deep: bool = False) -> None:
        """Look for roots and optimizers again, in all frames; on the heap too if `is_deep` or none was there."""
        if self._is_given:
            return
        scan = Scan(nn.Module, torch.optim.Optimizer)
        found = scan.in_frames()
        if is_deep or not any(isinstance(item, nn.Module) and _has_parameters(item) for _, item in found):
            self._has_scanned_heap_at = time.monotonic()
            known = {id(item) for _, item in found}
            found += [("", item) for item in scan.on_heap() if id(item) not in known]
        self._set_roots([(label, item) for label, item in found if isinstance(item, nn.Module)])
        optimizers = [item for _, item in found if isinstance(item, torch.optim.Optimizer)]
        self._optimizers = [weakref.ref(item) for item in optimizers]

    def entries(self) -> list[Entry]:
        """Every module, roots and then their children in definition order; a shared module under each of its names."""
        walked = [list(_walk(number, root)) for number, (_, root) in enumerate(self.roots())]
        counts = Counter(fqn for entries in walked for fqn in {entry.fqn for entry in entries})
        if len(walked) < 2:
            return [entry for entries in walked for entry in entries]
        labels = self._labels()
        return [
            Entry(
                f"{labels[entry.root]}.{entry.fqn}".rstrip(".") if counts[entry.fqn] > 1 else entry.fqn,
                entry.module, entry.outer, entry.wrappers, entry.titles, entry.depth, entry.root,
            )
            for entries in walked
            for entry in entries
        ]  # fmt: skip

    def find(self, pattern: str) -> list[tuple[str, nn.Module]]:
        """(fqn, the user's module) of all modules that `pattern` means; see `pattern.match_names`.

        The root is found by an empty pattern, `.`, its label or its class name. Searches deeper once if nothing
        matches. One module under several names appears once.
        """
        return [(entry.fqn, entry.module) for entry in self.find_entries(pattern)]

    def find_entries(self, pattern: str) -> list[Entry]:
        """`find`, with all that is known of each module."""
        found = self._match(pattern)
        if not found and self._may_scan_heap():
            self.refresh(is_deep=True)
            found = self._match(pattern)
        return list({id(entry.module): entry for entry in reversed(found)}.values())[::-1]

    def find_all(self, pattern: str) -> list[tuple[str, nn.Module]]:
        """`find`, but raises UnknownName with the nearest names where nothing matches."""
        found = self.find(pattern)
        if not found:
            raise self.unknown(pattern)
        return found

    def modules(self) -> list[tuple[str, nn.Module]]:
        """(fqn, the user's module) of every module, as `entries`."""
        return [(entry.fqn, entry.module) for entry in self.entries()]

    def is_compiled(self, fqn: str) -> bool:
        """Whether the module of this exact name is compiled or inside one that is: hooks added now do not fire."""
        within: list[tuple[int, int]] = []
        for entry in self.entries():
            while within and (within[-1][0] != entry.root or within[-1][1] >= entry.depth):
                within.pop()
            if "compile" in entry.titles:
                within.append((entry.root, entry.depth))
            if entry.fqn == fqn:
                return bool(within)
        return False

    def find_one(self, pattern: str) -> tuple[str, nn.Module]:
        """The one module that `pattern` means. Raises UnknownName with the nearest, AmbiguousName with all of them."""
        found = self.find_all(pattern)
        if len(found) > 1:
            names = [fqn for fqn, _ in found]
            shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
            raise AmbiguousName(f"{pattern} matches {len(names)} modules: {shown}.")
        return found[0]

    def module_for_hooks(self, fqn: str) -> nn.Module:
        """Where hooks for the module of this exact name go.

        The user's own module inside FSDP1 and checkpoint wrappers, so that its forward is what stops; of a root the
        DDP or compile wrapper, which is what the training loop calls. Raises UnknownName.
        """
        for entry in self.entries():
            if entry.fqn == fqn:
                if entry.depth == 0:
                    return choose_root_hook(Unwrapped(entry.module, entry.wrappers, entry.titles))
                return entry.module
        raise self.unknown(fqn)

    def nearest(self, pattern: str, count: int = 3) -> list[str]:
        """Names that look most like `pattern`."""
        return nearest_names(pattern, [entry.fqn for entry in self.entries() if entry.fqn], count)

    def unknown(self, pattern: str) -> Exception:
        """The UnknownName to raise for `pattern`, with the nearest names."""
        return unknown_name("module", pattern, [entry.fqn for entry in self.entries() if entry.fqn])

    def optimizers(self) -> list[torch.optim.Optimizer]:
        """Optimizers that own parameters; searches the heap once if none is known."""
        alive = [item for ref in self._optimizers if (item := ref()) is not None]
        if not alive and not self._is_given and self._may_scan_heap():
            self.refresh(is_deep=True)
            alive = [item for ref in self._optimizers if (item := ref()) is not None]
        return alive

    def add_optimizer(self, optimizer: torch.optim.Optimizer) -> None:
        """Note an optimizer that was met elsewhere (in a step hook)."""
        if not any(ref() is optimizer for ref in self._optimizers):
            self._optimizers.append(weakref.ref(optimizer))

    def _match(self, pattern: str) -> list[Entry]:
        entries = self.entries()
        if not split_name(pattern):
            return [entry for entry in entries if entry.depth == 0]
        wanted = set(match_names(pattern, [entry.fqn for entry in entries]))
        if wanted:
            return [entry for entry in entries if entry.fqn in wanted]
        labels, name = self._labels(), pattern.strip()
        return [entry for entry in entries if entry.depth == 0 and name in (entry.class_name, labels[entry.root])]

    def _may_scan_heap(self) -> bool:
        if self._is_given:
            return False
        last = self._has_scanned_heap_at
        return last is None or time.monotonic() - last > _HEAP_SCAN_PAUSE_S

    def _labels(self) -> list[str]:
        taken: Counter[str] = Counter()
        labels = []
        for label, root in self.roots():
            label = label if label not in ("", "self") else class_name(unwrap(root).module)
            taken[label] += 1
            labels.append(label if taken[label] == 1 else f"{label}{taken[label]}")
        return labels

    def _set_roots(self, found: list[tuple[str, nn.Module]]) -> None:
        owned: set[int] = set()
        visited: set[int] = set()
        for _, module in found:
            _mark_descendants(module, owned, visited)
        roots = [(label, module) for label, module in found if id(module) not in owned]
        kept = [pair for pair in roots if _has_parameters(pair[1])] or roots
        kept.sort(key=lambda pair: _weight(pair[1]), reverse=True)
        self._roots = [(label, weakref.ref(module)) for label, module in kept]


def _walk(number: int, root: nn.Module) -> Iterator[Entry]:
    def visit(outer: nn.Module, fqn: str, depth: int, above: frozenset[int]) -> Iterator[Entry]:
        module, wrappers, titles = unwrap(outer)
        if id(module) in above or depth > _MAX_DEPTH:
            return
        yield Entry(fqn, module, outer, wrappers, titles, depth, number)
        for name, child in children_of(module).items():
            if name == "_torch_params":
                continue
            yield from visit(child, f"{fqn}.{name}" if fqn else name, depth + 1, above | {id(module)})

    return visit(root, "", 0, frozenset())


def _mark_descendants(module: nn.Module, owned: set[int], visited: set[int]) -> None:
    pending = [module]
    while pending:
        current = pending.pop()
        if id(current) in visited:
            continue
        visited.add(id(current))
        for child in children_of(current).values():
            owned.add(id(child))
            pending.append(child)


def _parameters(root: nn.Module) -> Iterator[torch.Tensor]:
    pending, visited = [root], set()
    while pending:
        module = pending.pop()
        if id(module) in visited:
            continue
        visited.add(id(module))
        yield from (p for p in list((vars(module).get("_parameters") or {}).values()) if p is not None)
        pending += children_of(module).values()


def _has_parameters(root: nn.Module) -> bool:
    return next(_parameters(root), None) is not None


def _weight(root: nn.Module) -> tuple[bool, int]:
    is_trained, size = False, 0
    for parameter in _parameters(root):
        is_trained = is_trained or parameter.requires_grad
        try:
            size += parameter.numel()
        except ValueError:  # a lazy parameter has no shape yet
            continue
    return is_trained and bool(vars(root).get("training", True)), size
