"""Decides, on the training thread, whether an event stops it; and, on the agent thread, which hooks that takes."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any

import msgspec
from torch import nn

from distdbg.agent.clock import read_clock
from distdbg.agent.engine import Copy, Engine, Surroundings
from distdbg.agent.evaluation import evaluate
from distdbg.agent.guard import Guard, ask_nobody
from distdbg.agent.instruments import Instruments, Key
from distdbg.agent.parking import Parked, Parking
from distdbg.agent.stack import describe_frame, frames_from, module_stack
from distdbg.agent.watch import Watches
from distdbg.errors import DistdbgError, UnknownName
from distdbg.hooks.iteration import iteration
from distdbg.hooks.scene import EMPTY, Emit, Scene
from distdbg.probes.fingerprint import fingerprint
from distdbg.probes.model import ModelIndex
from distdbg.probes.scan import read_locals
from distdbg.probes.summary import describe_inputs, summarize
from distdbg.schema.breakpoint import (
    AnyBreakpoint,
    LineBreakpoint,
    ModuleBreakpoint,
    PointRule,
    StepRule,
    Watchpoint,
)
from distdbg.schema.event import AnyEvent, Watched
from distdbg.schema.stop import Stop

_KIND = {"forward": "forward-begin", "end": "forward-end", "backward": "backward-begin"}


class Control:
    """Rules, hooks and the one parked thread of this rank. `notify` sends a notice to the client and never blocks."""

    def __init__(self, model: ModelIndex, rank: int, stopped: Callable[[Stop], None], warn: Callable[[str], None]):
        self.model = model
        self.engine = Engine()
        self.parking = Parking()
        self.guard = Guard()
        self.instruments = Instruments()
        self._watches = Watches(fingerprint)
        self._rank = rank
        self._stopped = stopped
        self._warn = warn
        self._pid = os.getpid()
        self._num_hits = 0
        self._resolve: Callable[[str, Parked], Any] | None = None
        self.is_active = False

    # ---- on the agent thread ------------------------------------------------------------------------------------

    def open(self, resolve: Callable[[str, Parked], Any]) -> None:
        """Begin to count iterations. `resolve` reads a watched name in a scene."""
        self._resolve = resolve
        self.parking.open()
        self.is_active = True
        key = ("iteration", "")
        roots = [module for _, module in self.model.roots()]
        hook = iteration(roots, bool(self.model.optimizers()), self.emitter(key))
        self.instruments.open(key, None, hook)

    def install(self, rule: AnyBreakpoint) -> tuple[AnyBreakpoint, Sequence[tuple[str, str]], str]:
        """Put a rule in place; the rule as completed here, what it landed on, and a note. Raises UnknownName, ..."""
        matches: Sequence[tuple[str, str]] = ()
        note = ""
        match rule:
            case ModuleBreakpoint(pattern=pattern):
                found = self.model.find_all(pattern)
                matches = [(fqn, type(module).__name__) for fqn, module in found]
                subjects = frozenset(fqn for fqn, _ in matches)
            case LineBreakpoint(file=file, line=number, id=rule_id):
                # Half a megabyte that few sessions need: not before somebody asks for a line.
                from distdbg.hooks.line import line
                from distdbg.hooks.line_target import Target

                key = ("line", str(rule_id))
                self.instruments.close(key)
                landed = self.instruments.open(key, None, line([Target(file, number)], self.emitter(key)))
                matches = [(f"{place.file}:{place.line}", place.function) for place in landed]
                subjects = frozenset(subject for subject, _ in matches)
                note = "; ".join(dict.fromkeys(place.note for place in landed if place.note))
            case StepRule():
                rule = self._complete_step(rule)
                subjects = frozenset()
            case _:
                subjects = frozenset()
        self.engine.add(Copy(rule, subjects))
        self.sync()
        if isinstance(rule, Watchpoint):
            self._look_first(rule)
        return rule, matches, note

    def remove(self, rule_id: int) -> None:
        """Take a rule and the hooks that only it needed away."""
        self.engine.remove(rule_id)
        self.instruments.close(("line", str(rule_id)))
        self._watches.forget(rule_id)
        self.sync()

    def sync(self) -> None:
        """Open and close module hooks so that they are what the rules need."""
        needed: dict[Key, nn.Module] = {}
        for copy in self.engine.copies.values():
            for kind, fqns in self._needs(copy):
                for fqn in fqns:
                    with contextlib.suppress(UnknownName):  # the program has dropped that model since
                        needed[kind, fqn] = self.model.module_for_hooks(fqn)
        self.instruments.sync_modules(needed, self.emitter)

    def _needs(self, copy: Copy) -> list[tuple[str, Sequence[str]]]:
        everything = [fqn for fqn, _ in self.model.modules()]
        match copy.rule:
            case ModuleBreakpoint(when=when):
                return [(_KIND[when], sorted(copy.subjects))]
            case StepRule(how="finish", fqn=fqn):
                return [("forward-end", [fqn]), ("forward-begin", everything)] if fqn else []
            case StepRule():
                return [("forward-begin", everything)]
            case Watchpoint():
                return [("forward-begin", everything), ("forward-end", everything)]
            case PointRule(event=event, subject=subject) if event in _KIND.values():
                return [(event, [subject])]
            case _:
                return []

    def _complete_step(self, rule: StepRule) -> StepRule:
        parked = self.parking.current
        if parked is None:
            return rule
        stack = module_stack(sys._current_frames().get(parked.ident))
        names = {id(module): fqn for fqn, module in self.model.modules()}
        running = [(names[id(module)], depth) for depth, module in enumerate(stack, 1) if id(module) in names]
        if rule.how != "finish":
            return msgspec.structs.replace(rule, depth=len(stack))
        if parked.stop.event.name == "forward-end":
            running = running[:-1]  # the end of this one is here already
        fqn, depth = running[-1] if running else ("", 0)
        return msgspec.structs.replace(rule, fqn=fqn, depth=depth)

    def _look_first(self, rule: Watchpoint) -> None:
        parked = self.parking.current
        if parked is not None and self._resolve is not None:
            self._watches.has_changed(rule.id, rule.expression, lambda text: self._resolve_in(text, parked))

    def close(self) -> list[str]:
        """Take every hook away and let the thread go; what could not be taken away, as sentences."""
        self.is_active = False
        self.engine = Engine()
        problems = self.instruments.close_all()
        self.parking.close()
        self.guard.close()
        return problems

    # ---- on the training thread ---------------------------------------------------------------------------------

    def emitter(self, key: Key) -> Emit:
        """The way in for a hook: a bug of ours closes that hook and is reported, and never reaches training."""

        def emit(event: AnyEvent, scene: Scene) -> None:
            # A forked child (a DataLoader worker) inherits the hooks and has no agent: it is left alone.
            if not self.is_active or os.getpid() != self._pid or self.guard.is_evaluating():
                return
            try:
                self._handle(event, scene)
            except Exception as error:
                self.instruments.close(key)
                self._warn(f"hook {key[0]} {key[1]} was closed, training goes on: {type(error).__name__}: {error}")

        return emit

    def park_here(self, event: AnyEvent, frame: FrameType | None = None) -> None:
        """Park the calling thread at an event that no rule asked for: pause, distdbg.breakpoint()."""
        if self.is_active and os.getpid() == self._pid and not self.guard.is_evaluating():
            self._park(event, None, EMPTY, frames_from(frame or sys._getframe(1)), wanted=True, error="")

    def _handle(self, event: AnyEvent, scene: Scene) -> None:
        here = sys._getframe(1)
        around = Surroundings(depth=lambda: len(module_stack(here)), clock=read_clock)
        event, rules = self.engine.handle(event, around)
        if not rules:
            return
        frames = frames_from(scene.frame or here)
        candidate: tuple[AnyBreakpoint, AnyEvent, bool, str] | None = None
        for rule in rules:
            found = event
            if isinstance(rule, Watchpoint):
                changed = self._watch(rule, event, scene, frames)
                if changed is None:
                    continue
                found = changed
            wanted, error = self._is_wanted(rule, scene, frames)
            if candidate is None or (wanted and not candidate[2]):
                candidate = (rule, found, wanted, error)
        if candidate is not None:
            rule, event, wanted, error = candidate
            self._park(event, rule, scene, frames, wanted=wanted, error=error)

    def _watch(self, rule: Watchpoint, event: AnyEvent, scene: Scene, frames: list[FrameType]) -> Watched | None:
        parked = Parked(Stop(event=event), scene, list(frames))
        changed = self._watches.has_changed(rule.id, rule.expression, lambda text: self._resolve_in(text, parked))
        if changed is None:
            return None
        old, new = changed
        return Watched(expression=rule.expression, old=old, new=new, at_event=event.name, at_subject=event.subject)

    def _resolve_in(self, text: str, parked: Parked) -> Any:
        assert self._resolve is not None
        with self.guard.evaluating((), ask_nobody):
            return self._resolve(text, parked)

    def _is_wanted(self, rule: AnyBreakpoint, scene: Scene, frames: list[FrameType]) -> tuple[bool, str]:
        if rule.focus is not None and self._rank not in rule.focus:
            return False, ""
        if not rule.condition:
            return True, ""
        try:
            with self.guard.evaluating((), ask_nobody):
                return bool(evaluate(rule.condition, frames[0], extras_of(scene))), ""
        except DistdbgError as error:  # as gdb: a condition that cannot be computed stops, and says so
            return True, f"condition {rule.condition!r}: {error}"

    def _park(
        self, event: AnyEvent, rule: AnyBreakpoint | None, scene: Scene, frames: list[FrameType], *, wanted: bool,
        error: str,
    ) -> None:  # fmt: skip
        self._num_hits += 1
        is_traced = sys.gettrace() is not None  # our caller may be a trace function: its frame's locals are its own
        seen = list(describe_inputs(scene.args, scene.kwargs, scene.module)) if scene.module is not None else []
        named = {"output": scene.output, "grad_output": scene.grad_output}
        seen += [f"{name}   {summarize(value)}" for name, value in named.items() if value is not None]
        stop = Stop(
            event=event,
            breakpoint=rule.id if rule is not None and rule.id > 0 else None,
            iteration=self.engine.iteration,
            clock=read_clock(),
            rule=rule.id if rule is not None else 0,
            hit=self._num_hits,
            wanted=wanted,
            error=error,
            thread=threading.current_thread().name,
            frames=tuple(describe_frame(frame) for frame in frames[:1]),
            inputs=tuple(seen),
        )
        self.parking.park(Parked(stop, scene, list(frames)), lambda: self._stopped(stop))
        if not is_traced:  # what was read of them must not keep this iteration's tensors until they return
            for frame in frames:
                read_locals(frame)
        if not any(copy.rule.condition or isinstance(copy.rule, Watchpoint) for copy in self.engine.copies.values()):
            self.guard.close()  # the collectives' path is free again


def extras_of(scene: Scene) -> dict[str, Any]:
    """Names that an expression may use beside those of its frame."""
    extras: dict[str, Any] = {}
    if scene.module is not None:
        extras["module"] = scene.module
    if scene.args is not None:
        extras["input"] = scene.args[0] if len(scene.args) == 1 else scene.args
        extras["kwargs"] = dict(scene.kwargs)
    if scene.output is not None:
        extras["output"] = scene.output
    if scene.grad_output is not None:
        extras["grad_output"] = scene.grad_output
    return extras
