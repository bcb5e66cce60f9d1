"""One client's attachment to this rank: what each request does, and on which thread it is done."""

from __future__ import annotations

import linecache
import threading
import time
import weakref
from collections.abc import Callable
from contextlib import ExitStack
from queue import SimpleQueue
from types import FrameType
from typing import Any, cast

import torch

from distdbg.agent.clock import read_clock
from distdbg.agent.control import Control, extras_of
from distdbg.agent.evaluation import evaluate, execute
from distdbg.agent.guard import ask_nobody
from distdbg.agent.identity import describe_rank
from distdbg.agent.interrupt import Interruptible
from distdbg.agent.parking import Job, Parked
from distdbg.agent.stack import activity, describe_frame, frames_from, is_library, sample, training_thread
from distdbg.errors import DistdbgError, NotStoppedError, UsageError
from distdbg.hooks.pending import call_on_main_thread
from distdbg.hooks.timeout import Timeouts, raised_timeouts
from distdbg.probes.context import Context
from distdbg.probes.model import ModelIndex
from distdbg.probes.notes import note_for
from distdbg.probes.registry import PROBES, run_probe
from distdbg.probes.resolve import resolve
from distdbg.probes.summary import render
from distdbg.schema import message as m
from distdbg.schema.breakpoint import BoundaryRule
from distdbg.schema.event import Called, Paused

Send = Callable[[m.ToClient], None]
"""Hands a message to the agent thread; never blocks, may be called on any thread."""


_left_eager = False
"""A console was lost while compiled code ran eagerly for it."""


class AgentSession:
    """Holds everything that attaching put into the rank; `close` takes it away again."""

    def __init__(self, model: ModelIndex, rank: int, is_prepared: bool, send: Send) -> None:
        model.refresh()  # it may have come into being, or gone, since the last console was here
        self._send = send
        self._is_prepared = is_prepared
        self._model = model
        self.control = Control(model, rank, lambda stop: send(m.Stopped(stop=stop)), lambda t: send(m.Warned(text=t)))
        self._installed = ExitStack()
        self.timeouts: Timeouts = self._installed.enter_context(raised_timeouts())
        self._permits: SimpleQueue[m.Permit] = SimpleQueue()
        self._watched: dict[str, weakref.ref[torch.Tensor]] = {}
        self._interruptible = Interruptible()
        global _left_eager
        self._is_eager, _left_eager = _left_eager, False
        self._is_pausing = False
        self.control.open(self._resolve_watched)

    # ---- what the server calls, on the agent thread -------------------------------------------------------------

    def welcome(self) -> m.Welcome:
        """Who this rank is and where it stands."""
        parked = self.control.parking.current
        return describe_rank(
            self._model,
            dict(self.timeouts.original_s),
            is_prepared=self._is_prepared,
            iteration=self.control.engine.iteration,
            stop=parked.stop if parked else None,
            is_eager=self._is_eager,
        )

    def close(self, *, is_together: bool = False) -> m.Detached:
        """Take everything away and let the rank run.

        `is_together`: all ranks are told at one logical point, or stand there. Else code that was forced to run eagerly
        stays so until the next console leaves: a rank that compiled it again alone could issue other collectives than
        the rest, and hang the job.
        """
        global _left_eager
        num_hooks = len(self.control.instruments)
        limits = dict(self.timeouts.original_s)
        self._permits.put(m.Permit(id=0, is_granted=False, reason="the console left"))
        self._interruptible.interrupt()
        if self._is_eager and is_together:
            torch.compiler.set_stance("default")
        _left_eager = self._is_eager and not is_together
        problems = self.control.close()
        self._installed.close()
        return m.Detached(num_hooks=num_hooks, timeouts_s=limits, problems=tuple(problems))

    def permit(self, permit: m.Permit) -> None:
        """Hand the client's word to the evaluation that waits for it."""
        self._permits.put(permit)

    def handle(self, call: m.Call) -> None:
        """Carry a request out, here or on the parked thread; the answer goes through `send`."""
        request = call.request
        parked = self.control.parking.current
        if isinstance(request, m.Evaluate):
            evaluation = request
            work: Callable[[], m.Reply] = lambda: self._interruptible.run(  # noqa: E731
                lambda: self._evaluate(call.id, evaluation)
            )
            needs_thread = True
        elif type(request) in PROBES:
            work = lambda: run_probe(request, self._context(getattr(request, "frame", 0)))  # noqa: E731
            needs_thread = PROBES[type(request)].needs == "value" and parked is not None
        else:
            work = lambda: self._carry_out(request)  # noqa: E731
            needs_thread = False
        if not needs_thread:
            self._answer(call.id, work)
        elif parked is None:
            self._answer(call.id, _refuse_running)
        else:
            parked.jobs.put(Job(lambda: self._answer(call.id, work), lambda: self._answer(call.id, _refuse_running)))

    def _answer(self, call_id: int, work: Callable[[], m.Reply]) -> None:
        result: m.Reply | m.Failure
        try:
            result = work()
        except DistdbgError as error:
            result = m.Failure(error=type(error).__name__, message=str(error))
        except Exception as error:  # ours: the user gets a sentence, the job nothing
            result = m.Failure(error="DistdbgError", message=f"distdbg failed: {type(error).__name__}: {error}")
        self._send(m.Answer(id=call_id, result=cast("m.AnyReply | m.Failure", result)))

    def _carry_out(self, request: m.AnyRequest) -> m.AnyReply:
        match request:
            case m.Ping():
                return self._pong()
            case m.Install(breakpoint=rule):
                rule, matches, note = self.control.install(rule)
                is_compiled = any(self._model.is_compiled(fqn) for fqn, _ in matches)
                return m.Installed(matches=tuple(matches), clock=read_clock(), is_compiled=is_compiled, note=note)
            case m.Remove(id=rule_id):
                copy = self.control.engine.copies.get(rule_id)
                if copy is not None and isinstance(copy.rule, BoundaryRule):
                    self._is_pausing = False  # what `pause` has left behind ends when the ranks go on
                self.control.remove(rule_id)
                return m.Done()
            case m.Resume(hit=hit):
                is_resumed = self.control.parking.resume(hit)
                return m.Done(note="" if is_resumed else "was running")
            case m.Interrupt():
                self._interruptible.interrupt()
                return m.Done()
            case m.Pause():
                return self._pause()
            case m.SetCompileStance(stance=stance):
                return self._set_stance(stance)
            case m.ReadStack(depth=depth, context=context):
                return self._read_stack(depth, context)
            case m.ReadSource():
                return self._read_source(request)
            case _:
                raise UsageError(f"This rank's agent cannot do {type(request).__name__}: its version is another one.")

    # ---- requests ------------------------------------------------------------------------------------------------

    def _pong(self) -> m.Pong:
        parked = self.control.parking.current
        phrase = "" if parked else activity(training_thread())
        return m.Pong(
            iteration=self.control.engine.iteration,
            is_stopped=parked is not None,
            clock=read_clock(),
            activity=phrase,
            stop=parked.stop if parked else None,
        )

    def _pause(self) -> m.Done:
        if self.control.parking.current is None:
            self._is_pausing = True
            call_on_main_thread(self._park_for_pause)
        return m.Done()

    def _park_for_pause(self, frame: FrameType | None) -> None:
        # A thread that was blocked in C comes here late: perhaps the user has sent the ranks on meanwhile.
        if self._is_pausing:
            self._is_pausing = False
            self.control.park_here(Paused(), frame)

    def _set_stance(self, stance: str) -> m.Done:
        torch.compiler.set_stance(stance)
        self._is_eager = stance == "force_eager"
        return m.Done()

    def _frames(self) -> tuple[list[FrameType], Parked | None, str]:
        parked = self.control.parking.current
        if parked is not None:
            # An autograd thread of CUDA has none of the user's frames: those are on the thread that called backward.
            ident = training_thread()
            if parked.ident != ident and not any(not is_library(f.f_code.co_filename) for f in parked.frames):
                return frames_from(sample(ident)), parked, parked.stop.thread
            return parked.frames, parked, parked.stop.thread
        return frames_from(sample(training_thread())), None, threading.main_thread().name

    def _read_stack(self, depth: int, context: int) -> m.Stack:
        frames, parked, thread = self._frames()
        shown = tuple(describe_frame(frame, context) for frame in frames[:depth])
        return m.Stack(frames=shown, stop=parked.stop if parked else None, thread=thread)

    def _frame(self, number: int) -> FrameType:
        frames, _, _ = self._frames()
        if not 0 <= number < len(frames):
            raise UsageError(f"No frame {number}: the innermost is 0, the outermost {len(frames) - 1}.")
        return frames[number]

    def _read_source(self, request: m.ReadSource) -> m.Source:
        frame = self._frame(request.frame)
        described = describe_frame(frame, context=0)
        first = max(1, described.line - request.num_lines // 2) if request.first is None else request.first
        numbers = range(first, first + request.num_lines)
        read = ((n, linecache.getline(described.file, n, frame.f_globals)) for n in numbers)
        lines = tuple((n, text.rstrip("\n")) for n, text in read if text)
        return m.Source(file=described.file, function=described.function, current=described.line, lines=lines)

    def _evaluate(self, call_id: int, request: m.Evaluate) -> m.Evaluated:
        parked = self._parked()
        frame = self._frame(request.frame)
        extras = extras_of(parked.scene)
        with self.control.guard.evaluating(request.ranks, lambda *what: self._ask_permission(call_id, *what)):
            if request.mode == "exec":
                execute(request.text, frame, extras)
                return m.Evaluated(repr="")
            value = evaluate(request.text, frame, extras)
            text = render(value)
        note = note_for(request.text, value, {**frame.f_globals, **extras, **frame.f_locals})
        return m.Evaluated(repr=text, note=note)

    def _ask_permission(self, call_id: int, operator: str, group: str, ranks: tuple[int, ...]) -> str:
        self._send(m.AskCollective(id=call_id, op=operator, group=group, ranks=ranks))
        deadline = time.monotonic() + 10.0
        while True:
            try:
                permit = self._permits.get(timeout=max(0.0, deadline - time.monotonic()))
            except Exception:
                return "the console did not answer"
            if permit.id in (call_id, 0):
                return "" if permit.is_granted else permit.reason or "not all of them evaluate it"

    def _parked(self) -> Parked:
        parked = self.control.parking.current
        if parked is None:
            raise NotStoppedError(_RUNNING)
        return parked

    def _context(self, frame_number: int) -> Context:
        parked = self.control.parking.current
        if parked is None:
            return Context(model=self._model, is_stopped=False, live=True)
        return self._context_at(parked, self._frame(frame_number))

    def _context_at(self, parked: Parked, frame: FrameType) -> Context:
        scene = parked.scene
        extras = extras_of(scene)
        return Context(
            model=self._model,
            is_stopped=True,
            live=False,
            inputs=(scene.args, scene.kwargs) if scene.args is not None else None,
            output=scene.output,
            grad_output=scene.grad_output,
            module=scene.module,
            frame_locals=frame.f_locals,
            frame_globals=frame.f_globals,
            evaluate=lambda text: self._evaluate_alone(text, frame, extras),
        )

    def _evaluate_alone(self, text: str, frame: FrameType, extras: dict[str, Any]) -> Any:
        with self.control.guard.evaluating((), ask_nobody):
            return evaluate(text, frame, extras)

    def _resolve_watched(self, text: str, parked: Parked) -> Any:
        known = self._watched.get(text)
        if known is not None and (parameter := known()) is not None:
            return parameter  # at each event of a whole model: no walk through all of it for what does not move
        context = self._context_at(parked, parked.frames[0])
        try:
            held = resolve(text, context)[0]
        except UsageError:  # no tensor of that name: any expression of the frame may be watched
            return evaluate(text, parked.frames[0], extras_of(parked.scene))
        if held.role == "parameter":
            self._watched[text] = weakref.ref(held.tensor)
        return held.tensor

    def call_breakpoint(self, frame: FrameType) -> None:
        """The program called `distdbg.breakpoint()`: park its thread here."""
        self.control.park_here(Called(), frame)


_RUNNING = "This rank is running: pause it or wait for a breakpoint first."


def _refuse_running() -> m.AnyReply:
    raise NotStoppedError(_RUNNING)
