"""What of all that happens is a stop for the user, and how the ranks go on; calls are only written down."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest

from distdbg.client import stops as stops_module
from distdbg.client.gather import Gathered
from distdbg.client.rule import Rule
from distdbg.client.state import RankState, StopAnnounced, WarningGiven
from distdbg.client.stops import PAUSE_RULE, POINT_RULE, STANCE_RULE, STEP_RULE, Stops, TimedOut
from distdbg.schema import message as m
from distdbg.schema.breakpoint import BoundaryRule, ModuleBreakpoint
from distdbg.schema.event import ForwardBegin, Iteration, Paused, Watched
from distdbg.schema.stop import Stop
from tests.unit.client.simulation import Simulation, Step, Sync, Visit


class Desk:
    """A `Stops` of two ranks with all that it touches."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 10.0
        monkeypatch.setattr(stops_module, "time", SimpleNamespace(monotonic=lambda: self.now))
        self.posted: list[tuple[int, m.AnyRequest]] = []
        self.asked: list[tuple[int, m.AnyRequest]] = []
        self.told: list[Any] = []
        self.states = {rank: RankState(rank) for rank in (0, 1)}
        self.rules: dict[int, Rule] = {}
        self.replies: dict[int, m.AnyReply] = {}
        self.stops = Stops(self.states, self.rules, self, self._ask, self.told.append)  # type: ignore[arg-type]

    def post(self, requests: Mapping[int, m.AnyRequest]) -> None:
        self.posted += requests.items()

    def _ask(self, request: m.AnyRequest, ranks: frozenset[int], *, timeout_s: float | None = None) -> Gathered:
        self.asked += [(rank, request) for rank in sorted(ranks)]
        return Gathered({rank: self.replies[rank] for rank in ranks if rank in self.replies})

    def rule(self, **fields: Any) -> Rule:
        matches = {0: (("a", "Block"),), 1: (("a", "Block"),)}
        self.rules[1] = Rule(ModuleBreakpoint(id=1, pattern="a", **fields), matches=matches)
        return self.rules[1]

    def both_stop(self, hit: int = 1, wanted: tuple[bool, bool] = (True, True), rule: int = 1) -> None:
        for rank in (0, 1):
            self.stops.on_stopped(rank, stop(hit=hit, wanted=wanted[rank], rule=rule))

    @property
    def reports(self) -> list[Any]:
        return [change.report for change in self.told if isinstance(change, StopAnnounced)]

    @property
    def resumed(self) -> list[tuple[int, int | None]]:
        return [(rank, request.hit) for rank, request in self.posted if isinstance(request, m.Resume)]

    @property
    def removed(self) -> list[tuple[int, int]]:
        return [(rank, request.id) for rank, request in self.posted if isinstance(request, m.Remove)]


def stop(**fields: Any) -> Stop:
    return Stop(**{"event": ForwardBegin(fqn="a"), "rule": 1, "hit": 1, "clock": {"w": 1}, **fields})


@pytest.fixture
def desk(monkeypatch: pytest.MonkeyPatch) -> Desk:
    return Desk(monkeypatch)


def test_a_stop_of_all_is_told_once(desk: Desk) -> None:
    rule = desk.rule()
    desk.stops.on_stopped(0, stop())
    assert (desk.reports, desk.stops.stopped) == ([], frozenset({0}))
    desk.stops.on_stopped(1, stop())
    desk.stops.on_tick(desk.now)
    (report,) = desk.reports
    assert (report.ranks, report.others, report.note) == (frozenset({0, 1}), {}, "")
    assert rule.num_hits == 1
    assert desk.stops.is_at_one_point


def test_ignored_hits_are_counted_and_let_go(desk: Desk) -> None:
    desk.rule().ignore_count = 2
    for hit in (1, 2):
        desk.both_stop(hit)
    assert (desk.reports, desk.resumed) == ([], [(0, 1), (1, 1), (0, 2), (1, 2)])
    desk.both_stop(3)
    assert len(desk.reports) == 1
    assert (desk.rules[1].num_hits, desk.rules[1].ignore_count) == (3, 0)


def test_what_nobody_wants_is_let_go_and_no_hit(desk: Desk) -> None:
    rule = desk.rule(condition="x")
    rule.ignore_count = 1
    desk.both_stop(wanted=(False, False))
    assert (desk.reports, desk.resumed, rule.num_hits, rule.ignore_count) == ([], [(0, 1), (1, 1)], 0, 1)


def test_a_temporary_rule_goes_with_its_first_stop_that_is_shown(desk: Desk) -> None:
    desk.rule(is_temporary=True).ignore_count = 1
    desk.both_stop(1)
    assert 1 in desk.rules and desk.removed == []
    desk.both_stop(2)
    assert desk.rules == {} and desk.removed == [(0, 1), (1, 1)]
    assert len(desk.reports) == 1


@pytest.mark.parametrize(
    ("condition", "note"), [("loss > 9", "loss > 9 holds on 1"), ("", "asked for on 1 only")]
)  # fmt: skip
def test_the_report_says_whose_wish_it_was(condition: str, note: str, desk: Desk) -> None:
    desk.rule(condition=condition)
    desk.both_stop(wanted=(False, True))
    assert desk.reports[0].note == note
    assert desk.reports[0].clusters[0].stop.wanted


def test_a_late_joiner_is_another_report_and_not_another_hit(desk: Desk) -> None:
    rule = desk.rule()
    desk.stops.on_stopped(0, stop())
    desk.now += 2
    desk.stops.on_tick(desk.now)
    assert desk.reports[0].ranks == {0}
    desk.stops.on_stopped(1, stop())
    assert [sorted(report.ranks) for report in desk.reports] == [[0], [0, 1]]
    assert rule.num_hits == 1


def test_only_what_was_shown_is_resumed_by_hit_and_passing_rules_end(desk: Desk) -> None:
    desk.rule()
    desk.both_stop(hit=4)
    desk.stops.resume()
    assert desk.resumed == [(0, 4), (1, 4)]
    passing = [(rank, rule) for rule in (PAUSE_RULE, STEP_RULE, POINT_RULE) for rank in (0, 1)]
    assert desk.removed == passing
    assert desk.stops.stopped == frozenset()


def test_what_is_still_coming_together_is_not_resumed(desk: Desk) -> None:
    desk.rule()
    desk.stops.on_stopped(0, stop())
    desk.stops.resume()
    assert desk.resumed == [] and desk.stops.stopped == {0}


def test_resume_of_some_leaves_the_others(desk: Desk) -> None:
    desk.rule()
    desk.both_stop()
    desk.stops.resume(frozenset({1}), keep=STEP_RULE)
    assert desk.resumed == [(1, 1)] and desk.stops.stopped == {0}
    assert STEP_RULE not in {rule for _, rule in desk.removed}


def test_a_watch_calls_the_others_to_the_event_at_its_clock(desk: Desk) -> None:
    event = Watched(expression="w", old="1", new="2", at_event="forward-end", at_subject="b")
    desk.stops.on_stopped(0, stop(event=event, clock={"w": 8}))
    ((rank, install),) = desk.posted
    point = install.breakpoint  # type: ignore[union-attr]
    assert (rank, point.id, point.event, point.subject, point.clock) == (1, POINT_RULE, "forward-end", "b", {"w": 8})


def test_pause_waits_for_a_boundary_and_then_parks_each_where_it_is(desk: Desk) -> None:
    desk.stops.pause()
    assert desk.asked == [(rank, m.Install(breakpoint=BoundaryRule(id=PAUSE_RULE))) for rank in (0, 1)]
    desk.stops.on_tick(desk.now + 0.9)
    assert desk.posted == []
    desk.stops.on_tick(desk.now + 1.1)
    desk.stops.on_tick(desk.now + 1.4)
    assert desk.posted == [(0, m.Pause()), (1, m.Pause())]


def test_pause_at_a_boundary_in_time_parks_nobody_elsewhere(desk: Desk) -> None:
    desk.stops.pause()
    for rank in (0, 1):
        desk.stops.on_stopped(rank, stop(event=Iteration(number=3), rule=PAUSE_RULE))
    desk.stops.on_tick(desk.now + 5)
    assert len(desk.reports) == 1 and desk.posted == []


def test_pausing_stopped_ranks_does_nothing(desk: Desk) -> None:
    desk.rule()
    desk.both_stop()
    desk.stops.pause()
    assert desk.asked == []


def test_a_stance_changes_at_once_where_all_stand_together(desk: Desk) -> None:
    desk.rule()
    desk.both_stop()
    desk.stops.want_stance("force_eager")
    assert desk.asked == [(rank, m.SetCompileStance(stance="force_eager")) for rank in (0, 1)]


def test_a_stance_changes_at_a_boundary_unseen_by_the_user(desk: Desk) -> None:
    desk.stops.want_stance("force_eager")
    assert [request for _, request in desk.asked] == [m.Install(breakpoint=BoundaryRule(id=STANCE_RULE))] * 2
    for rank in (0, 1):
        desk.stops.on_stopped(rank, stop(event=Iteration(number=3), rule=STANCE_RULE, hit=rank + 5))
    assert desk.reports == []
    assert [type(request) for rank, request in desk.posted if rank == 0] == [m.Remove, m.SetCompileStance, m.Resume]
    assert desk.resumed == [(0, 5), (1, 6)] and desk.stops.stopped == frozenset()


def test_a_lost_rank_is_told_of_once_and_completes_the_stop(desk: Desk) -> None:
    desk.rule()
    desk.stops.on_stopped(0, stop())
    assert desk.stops.on_lost(1, "killed by signal 9")
    assert not desk.stops.on_lost(1, "again")
    desk.stops.decide()
    assert desk.reports[0].ranks == {0}
    assert desk.reports[0].others == {1: "lost: killed by signal 9"}


def test_what_the_others_do_is_asked_for(desk: Desk) -> None:
    desk.replies = {1: m.Pong(iteration=1, is_stopped=False, activity="all_reduce from f, x.py:3")}
    desk.stops.on_stopped(0, stop(event=Paused(), rule=0))
    assert desk.stops.report().others == {1: "running, in all_reduce from f, x.py:3"}
    desk.replies = {1: m.Pong(iteration=1, is_stopped=False)}
    assert desk.stops.report().others == {1: "running"}


def test_adopted_stops_are_shown_and_can_be_resumed(desk: Desk) -> None:
    welcomes = {rank: SimpleNamespace(iteration=9, stop=stop(hit=3 + rank), is_eager=False) for rank in (0, 1)}
    desk.stops.adopt(welcomes)  # type: ignore[arg-type]
    assert desk.stops.report().ranks == {0, 1} and desk.states[1].iteration == 9
    desk.stops.resume()
    assert desk.resumed == [(0, 3), (1, 4)]


def test_a_rank_that_went_on_by_itself_is_no_longer_stopped(desk: Desk) -> None:
    desk.rule()
    desk.both_stop()
    desk.stops.on_resumed(0)
    assert desk.stops.stopped == {1} and desk.stops.report().ranks == {1}


def test_a_breakpoint_that_a_whole_iteration_never_met_is_said_once(desk: Desk) -> None:
    desk.rule()
    for iteration in (5, 6):
        desk.stops.on_iteration(0, iteration)
    assert desk.told == []
    desk.stops.on_iteration(0, 7)
    for rank in (0, 1):
        desk.stops.on_iteration(rank, 9)
    assert desk.told == [WarningGiven(0, "breakpoint 1: no forward of a in a whole iteration")]


# ---- waiting ---------------------------------------------------------------------------------------------------------


def test_wait_comes_back_at_once_when_all_stand(desk: Desk) -> None:
    desk.rule()
    desk.both_stop()
    report = desk.stops.wait(0.0)
    assert report is not None and report.ranks == {0, 1}


def test_wait_without_a_stop_runs_out_of_time(desk: Desk) -> None:
    with pytest.raises(TimedOut) as raised:
        desk.stops.wait(0.0)
    assert str(raised.value) == "No stop within 0 s; the ranks go on."
    assert raised.value.exit_status == 124


def test_wait_ends_when_nobody_is_left(desk: Desk) -> None:
    for rank in (0, 1):
        desk.stops.on_lost(rank, "exited")
    assert desk.stops.wait(None) is None


# ---- on whole jobs --------------------------------------------------------------------------------------------------

PROGRAM = [Visit("a"), Sync("tp"), Visit("b"), Sync("dp"), Step()]


@pytest.mark.parametrize("seed", range(6))
def test_ignored_hits_are_exactly_as_many(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    job = Simulation(seed, PROGRAM, {"dp": 2, "tp": 2}, monkeypatch)
    number = job.break_("a")
    if not job.reports:
        job.wait()
    (first,) = job.visits(job.reports[-1])
    job.session.ignore(number, 3)
    (then,) = job.visits(job.resume_and_wait())
    assert then - first == 4 * len(PROGRAM)


@pytest.mark.parametrize("seed", range(6))
def test_a_temporary_breakpoint_stops_once(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    job = Simulation(seed, PROGRAM, {"dp": 2, "tp": 2}, monkeypatch)
    job.break_("a", is_temporary=True)
    if not job.reports:
        job.wait()
    job.session.resume()
    job.run(20)
    assert len(job.reports) == 1 and job.session.rules == {}
    assert not any(rank.engine.copies for rank in job.ranks)


def test_what_a_broken_connection_has_lost_is_told_by_the_next_pong(desk: Desk) -> None:
    desk.rule()
    desk.both_stop()
    hits = {rank: state.stop.hit for rank, state in desk.states.items() if state.stop}
    parked = {rank: state.stop for rank, state in desk.states.items()}
    desk.stops.resume()
    before = len(desk.resumed)
    desk.stops.on_pong(1, m.Pong(iteration=1, is_stopped=True, stop=parked[1]))  # its Resume was lost
    assert desk.resumed[before:] == [(1, hits[1])]
    assert desk.states[1].status == "running"
    desk.stops.on_pong(1, m.Pong(iteration=1, is_stopped=False))
    missed = stop(hit=hits[1] + 1)
    desk.stops.on_pong(1, m.Pong(iteration=2, is_stopped=True, stop=missed))  # its Stopped was lost
    assert desk.states[1].status == "stopped"
