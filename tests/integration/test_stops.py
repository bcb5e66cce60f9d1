"""All ranks stop at the same logical call, whatever the rule, the wrapper and the moment at which it was set."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest

from distdbg.client.session import Session, TimedOut
from distdbg.client.state import Change, StopReport, WarningGiven
from distdbg.errors import UnknownName
from distdbg.schema.breakpoint import AnyBreakpoint, LineBreakpoint, ModuleBreakpoint, Watchpoint
from distdbg.schema.message import Evaluate, Evaluated, ReadStack
from distdbg.schema.ranks import format_ranks
from tests.bench import Job, line_of

Jobs = Callable[..., AbstractContextManager[Job]]
Attach = Callable[..., Session]


def set_rule(session: Session, rule: AnyBreakpoint) -> int:
    return session.add_rule(rule)[0].id


def module(pattern: str, **fields: object) -> ModuleBreakpoint:
    return ModuleBreakpoint(id=0, pattern=pattern, **fields)  # type: ignore[arg-type]


def told(report: StopReport | None) -> str:
    """`0-3 forward layer.0`: who is stopped at what, clusters joined by ` | `, the ranks elsewhere last."""
    assert report is not None
    clusters = [f"{format_ranks(cluster.ranks)} {cluster.stop.event.title}" for cluster in report.clusters]
    return " | ".join(clusters + [f"{rank} elsewhere" for rank in sorted(report.others)])


def go_on(session: Session) -> str:
    session.resume()
    return told(session.wait(20))


@pytest.mark.parametrize("mode", ["ddp", "fsdp1", "fsdp2", "compile"])
def test_every_rank_stops_under_each_wrapper(jobs: Jobs, session: Attach, mode: str) -> None:
    with jobs("wrapped", env={"MODE": mode}) as job:
        attached = session(job)
        first = set_rule(attached, module("blocks.0"))
        assert told(attached.wait(20)) == "0-1 forward blocks.0"
        assert go_on(attached) == "0-1 forward blocks.0"
        attached.delete_rule(first)
        set_rule(attached, module("blocks.1", when="backward"))
        set_rule(attached, module("shared", when="end"))
        assert go_on(attached) == "0-1 end of shared"
        assert go_on(attached) == "0-1 end of shared (call 2)"
        assert go_on(attached) == "0-1 backward blocks.1"
        attached.detach()
        job.wait_for_progress()


def test_a_checkpointed_module_says_which_of_its_two_forwards_it_is(jobs: Jobs, session: Attach) -> None:
    with jobs("wrapped", env={"MODE": "checkpoint"}) as job:
        attached = session(job)
        set_rule(attached, module("blocks.0"))
        seen = {told(attached.wait(20)), go_on(attached)}
        assert seen == {"0-1 forward blocks.0", "0-1 forward blocks.0 recomputed in backward"}


def test_a_breakpoint_set_at_any_moment_brings_all_ranks_to_one_call(jobs: Jobs, session: Attach) -> None:
    with jobs("transformer_2d", nproc=4, env={"STEP_SLEEP": "0"}) as job:
        attached = session(job)
        for _ in range(12):  # whatever the ranks are at when it is set
            rule = set_rule(attached, module("layer.1.attention"))
            report = attached.wait(20)
            assert told(report) == "0-3 forward layer.1.attention"
            clocks = [state.stop.clock for state in attached.states.values() if state.stop]
            for group in {group for clock in clocks for group in clock}:
                assert len({clock[group] for clock in clocks if group in clock}) == 1, clocks
            attached.delete_rule(rule)
            attached.resume()


def test_a_condition_true_on_one_rank_stops_all_at_that_call(jobs: Jobs, session: Attach) -> None:
    with jobs("wrapped") as job:
        attached = session(job)
        set_rule(attached, module("blocks.0", condition="__import__('torch').distributed.get_rank() == 1"))
        report = attached.wait(20)
        assert told(report) == "0-1 forward blocks.0"
        assert report is not None and report.note.endswith("holds on 1")


def test_a_condition_that_fails_stops_and_says_so(jobs: Jobs, session: Attach) -> None:
    with jobs("wrapped") as job:
        attached = session(job)
        set_rule(attached, module("blocks.0", condition="no_such_name > 1"))
        report = attached.wait(20)
        assert report is not None and "no_such_name" in report.clusters[0].stop.error


def test_focus_ignore_and_temporary(jobs: Jobs, session: Attach) -> None:
    with jobs("wrapped") as job:
        attached = session(job)
        focused = set_rule(attached, module("blocks.0", focus=(1,)))
        report = attached.wait(20)
        assert told(report) == "0-1 forward blocks.0" and report is not None and report.note == "asked for on 1 only"
        attached.delete_rule(focused)
        ignoring = set_rule(attached, module("blocks.0"))
        attached.ignore(ignoring, 3)
        before = attached.states[0].iteration
        go_on(attached)
        assert attached.states[0].iteration == before + 4
        attached.delete_rule(ignoring)
        set_rule(attached, module("blocks.1", is_temporary=True))
        assert go_on(attached) == "0-1 forward blocks.1"
        attached.resume()
        with pytest.raises(TimedOut):
            attached.wait(1)


def test_watch_stops_where_a_parameter_changes(jobs: Jobs, session: Attach) -> None:
    with jobs("transformer_2d", nproc=4) as job:
        attached = session(job)
        start = set_rule(attached, module("layer.0", is_temporary=True))
        attached.wait(20)
        assert start not in attached.rules
        set_rule(attached, Watchpoint(id=0, expression="layer.0.attention.wq.weight"))
        assert go_on(attached) == "0-3 watch layer.0.attention.wq.weight"
        event = attached.states[0].stop.event  # type: ignore[union-attr]
        assert event.at_event == "iteration" and event.old != event.new  # type: ignore[union-attr]


def test_watch_on_one_rank_calls_the_others_to_its_side(jobs: Jobs, session: Attach) -> None:
    with jobs("wrapped", env={"MODE": "ddp"}) as job:
        attached = session(job)
        set_rule(attached, module("blocks.0", is_temporary=True))
        attached.wait(20)
        set_rule(attached, Watchpoint(id=0, expression="__import__('os').environ.get('MARK')"))
        attached.ask(
            Evaluate(text="__import__('os').environ.update(MARK='1')", mode="exec", ranks=(1,)), frozenset({1})
        )
        attached.resume()
        report = attached.wait(20)
        assert report is not None
        watched = [cluster for cluster in report.clusters if cluster.stop.event.name == "watch"]
        assert [cluster.ranks for cluster in watched] == [{1}]
        # Rank 0 stands at the very same event, or had passed it and runs up to the next collective.
        event = watched[0].stop.event
        beside = [cluster.stop.event.subject for cluster in report.clusters if cluster.ranks == {0}]
        assert beside == [event.at_subject] or report.others[0].startswith("running, in "), report  # type: ignore[union-attr]


def test_step_next_finish_go_from_module_to_module(jobs: Jobs, session: Attach) -> None:
    with jobs("transformer_2d", nproc=4) as job:
        attached = session(job)
        set_rule(attached, module("layer.0", is_temporary=True))
        attached.wait(20)

        def go(how: str) -> str:
            attached.step(how)
            return told(attached.wait(20))

        assert go("step") == "0-3 forward layer.0.n1"
        assert go("next") == "0-3 forward layer.0.attention"
        assert go("step") == "0-3 forward layer.0.attention.wq"
        assert go("next") == "0-3 forward layer.0.attention.wk"
        assert go("finish") == "0-3 end of layer.0.attention.wk"
        assert go("finish") == "0-3 end of layer.0.attention"
        assert go("next") == "0-3 forward layer.0.n2"


def test_finish_of_a_call_that_began_without_hooks_stops_when_it_is_over(jobs: Jobs, session: Attach) -> None:
    with jobs("wrapped") as job:
        attached = session(job)
        rule = set_rule(attached, LineBreakpoint(id=0, file="wrapped.py", line=line_of("wrapped", "forward")))
        attached.wait(20)
        attached.delete_rule(rule)
        attached.step("finish")  # inside blocks.0 or blocks.1, whichever ran when the line was armed
        assert told(attached.wait(20)) in ("0-1 forward blocks.1", "0-1 forward shared")


def test_a_source_line_stops_every_rank(jobs: Jobs, session: Attach) -> None:
    number = line_of("wrapped", "forward")
    with jobs("wrapped") as job:
        attached = session(job)
        set_rule(attached, LineBreakpoint(id=0, file="wrapped.py", line=number))
        assert told(attached.wait(20)) == f"0-1 line wrapped.py:{number}"
        stack = attached.ask(ReadStack(depth=2)).replies[1]
        assert [frame.function for frame in stack.frames] == ["Block.forward", "Net.forward"]  # type: ignore[union-attr]


def test_pause_together_at_a_boundary_or_apart_where_none_comes(jobs: Jobs, session: Attach) -> None:
    with jobs("wrapped") as job:
        attached = session(job)
        attached.pause()
        assert told(attached.wait(20)) == "0-1 iteration"
        attached.detach()
    with jobs("wrapped", env={"MODE": "plain", "STEP_SLEEP": "3"}) as job:
        attached = session(job)
        attached.pause()
        report = attached.wait(20)
        assert report is not None and report.ranks == {0, 1}


def test_names_that_match_nothing_and_modules_that_are_never_called(jobs: Jobs, session: Attach) -> None:
    with jobs("wrapped") as job:
        attached = session(job)
        with pytest.raises(UnknownName, match=r"blocks\.0\.frist\. Nearest: blocks\.0\.first"):
            set_rule(attached, module("blocks.0.frist"))
        changes: list[Change] = []
        attached.subscribe(changes.append)
        set_rule(attached, module("blocks/*/unused"))
        with pytest.raises(TimedOut):
            attached.wait(3)
        warnings = [change.text for change in changes if isinstance(change, WarningGiven)]
        assert warnings == ["breakpoint 1: no forward of blocks/*/unused in a whole iteration"]


def test_a_rank_elsewhere_is_named_with_what_it_does(jobs: Jobs, session: Attach) -> None:
    with jobs("wrapped", env={"MODE": "ddp"}) as job:
        attached = session(job)
        set_rule(attached, module("blocks.0", is_temporary=True))
        attached.wait(20)
        os.kill(job.pids[1], signal.SIGSTOP)
        try:
            set_rule(attached, module("blocks.1"))
            attached.resume()
            report = attached.wait(20)
            assert report is not None and report.ranks == {0}
            assert report.others == {1: "does not answer (stopped by a signal)"}
        finally:
            os.kill(job.pids[1], signal.SIGCONT)
        # What it was told meanwhile may have been lost with its connection: then it has passed the breakpoint.
        deadline = time.monotonic() + 20
        while (report := attached.report()).ranks != {0, 1} and not report.others[1].startswith("running, in backward"):
            assert time.monotonic() < deadline, report
            time.sleep(0.05)
        attached.detach()
        job.wait_for_progress()


def test_data_loader_workers_are_left_alone(jobs: Jobs, session: Attach) -> None:
    with jobs("wrapped", env={"WORKERS": "2"}) as job:
        attached = session(job)
        set_rule(attached, module("blocks.0"))
        set_rule(attached, Watchpoint(id=0, expression="head.weight"))
        attached.wait(20)
        for _ in range(20):  # over several epochs, each forking new workers while we are in
            go_on(attached)
        attached.detach()
        job.wait_for_progress()


def test_an_endless_evaluation_is_broken_off_and_the_job_goes_on(jobs: Jobs, session: Attach) -> None:
    with jobs("wrapped") as job:
        attached = session(job)
        set_rule(attached, module("blocks.0"))
        attached.wait(20)
        endless = Evaluate(text="sum(1 for _ in __import__('itertools').count())", ranks=(0, 1))
        assert attached.ask(endless, timeout_s=0.5).missing == {0: "slow", 1: "slow"}
        answer = attached.ask(Evaluate(text="40 + 2", ranks=(0, 1))).replies[1]
        assert isinstance(answer, Evaluated)
        assert answer.repr == "42"
        assert go_on(attached) == "0-1 forward blocks.0"
        attached.ask(endless, timeout_s=0.1)
        attached.detach()  # while it may still be at it
        job.wait_for_progress()
