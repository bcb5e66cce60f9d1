"""Where ranks meet: single meetings by hand, then whole jobs from a seed (see `simulation`)."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from distdbg.client.rendezvous import (
    MAX_RETRIES,
    UNSURE_GRACE_S,
    UNWANTED_GRACE_S,
    WANTED_GRACE_S,
    Announce,
    Release,
    Rendezvous,
)
from distdbg.schema.breakpoint import Watchpoint
from distdbg.schema.event import ForwardBegin
from distdbg.schema.stop import Clock, Stop
from tests.unit.client.simulation import Deadlock, Simulation, Step, Sync, Visit

ALL = frozenset({0, 1})
NOW = 50.0


def stop(fqn: str = "a", *, rule: int = 1, wanted: bool = True, is_recompute: bool = False, **clock: int) -> Stop:
    return Stop(event=ForwardBegin(fqn=fqn, is_recompute=is_recompute), rule=rule, wanted=wanted, clock=clock)


def meet(stops: Mapping[int, Stop], *, armed: Mapping[int, Clock] | None = None) -> Rendezvous:
    rendezvous = Rendezvous()
    if armed is not None:
        rendezvous.arm(1, armed)
    for rank, one in stops.items():
        rendezvous.arrive(rank, one, NOW)
    return rendezvous


def decide(rendezvous: Rendezvous, after_s: float = 0.0, alive: frozenset[int] = ALL) -> list[tuple[str, list[int]]]:
    """Decisions as ("announce" or "release", its ranks)."""
    found = rendezvous.decide({}, alive, NOW + after_s)
    return [("announce" if isinstance(d, Announce) else "release", sorted(d.meeting.stops)) for d in found]


# ---- one meeting ----------------------------------------------------------------------------------------------------


def test_all_there_is_announced_once() -> None:
    rendezvous = meet({0: stop(w=3), 1: stop(w=3)})
    assert decide(rendezvous) == [("announce", [0, 1])]
    assert decide(rendezvous, 100) == []
    assert rendezvous.deadline() is None


def test_all_there_and_nobody_wants_is_released_and_forgotten() -> None:
    rendezvous = meet({0: stop(wanted=False), 1: stop(wanted=False)})
    assert decide(rendezvous) == [("release", [0, 1])]
    assert rendezvous.meetings == []


def test_a_condition_that_is_true_on_one_stops_all_and_that_one_speaks() -> None:
    rendezvous = meet({0: stop(wanted=False), 1: stop(wanted=True)})
    (decision,) = rendezvous.decide({}, ALL, NOW)
    assert isinstance(decision, Announce)
    assert decision.meeting.speaker is decision.meeting.stops[1]


def test_only_the_ranks_that_can_meet_the_rule_are_waited_for() -> None:
    rendezvous = meet({0: stop()})
    assert rendezvous.decide({1: frozenset({0})}, ALL, NOW) == [Announce(rendezvous.meetings[0])]


def test_a_rank_that_is_gone_is_not_waited_for() -> None:
    rendezvous = meet({0: stop()})
    assert decide(rendezvous) == []
    assert decide(rendezvous, alive=frozenset({0})) == [("announce", [0])]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (stop(w=1), stop(w=2)),
        (stop("a"), stop("b")),
        (stop(rule=1), stop(rule=2)),
        (stop(), stop(is_recompute=True)),
    ],
)
def test_stops_at_different_points_are_different_meetings(first: Stop, second: Stop) -> None:
    assert len(meet({0: first, 1: second}).meetings) == 2


def test_groups_that_only_one_is_in_do_not_matter() -> None:
    assert len(meet({0: stop(w=1, tp0=5), 1: stop(w=1, tp1=9)}).meetings) == 1


def test_a_third_must_fit_everybody_who_is_there() -> None:
    # 0 and 3 share no group that has moved; 1 shares one with each of them.
    rendezvous = meet({0: stop(tp0=2, dp0=1), 3: stop(tp1=3, dp1=1), 1: stop(tp0=2, dp1=2)})
    assert [sorted(meeting.stops) for meeting in rendezvous.meetings] == [[0, 3], [1]]


# ---- some are still to come -----------------------------------------------------------------------------------------


def test_a_wanted_stop_waits_its_grace_and_is_announced_without_the_rest() -> None:
    rendezvous = meet({0: stop()})
    assert decide(rendezvous, WANTED_GRACE_S) == []
    assert decide(rendezvous, WANTED_GRACE_S + 0.01) == [("announce", [0])]


def test_an_unwanted_stop_waits_longer_and_is_released() -> None:
    rendezvous = meet({0: stop(wanted=False)})
    assert decide(rendezvous, UNWANTED_GRACE_S) == []
    assert decide(rendezvous, UNWANTED_GRACE_S + 0.01) == [("release", [0])]


def test_the_deadline_is_the_first_moment_at_which_a_decision_may_change() -> None:
    rendezvous = meet({0: stop()})
    rendezvous.arrive(1, stop("b"), NOW + 9)
    assert rendezvous.deadline() == NOW + UNSURE_GRACE_S


def test_a_late_joiner_is_announced_again_and_marked() -> None:
    rendezvous = meet({0: stop(w=1)})
    assert decide(rendezvous, WANTED_GRACE_S + 0.1) == [("announce", [0])]
    meeting = rendezvous.arrive(1, stop(w=1), NOW + 3)
    assert meeting.is_late
    assert decide(rendezvous, 3) == [("announce", [0, 1])]


def test_a_late_joiner_is_announced_at_once_though_others_are_still_missing() -> None:
    three = frozenset({0, 1, 2})
    rendezvous = meet({0: stop(w=1)})
    decide(rendezvous, WANTED_GRACE_S + 0.1, three)
    rendezvous.meetings[0].since = NOW + 3
    rendezvous.arrive(1, stop(w=1), NOW + 3)
    assert decide(rendezvous, 3, three) == [("announce", [0, 1])]


def test_ranks_that_are_parked_elsewhere_are_not_waited_for() -> None:
    rendezvous = meet({0: stop("a"), 1: stop("b", rule=-4)})
    assert sorted(decide(rendezvous)) == [("announce", [0]), ("announce", [1])]


def test_whoever_leaves_takes_an_empty_meeting_along() -> None:
    rendezvous = meet({0: stop(), 1: stop()})
    rendezvous.leave(0)
    assert [sorted(meeting.stops) for meeting in rendezvous.meetings] == [[1]]
    rendezvous.leave(1)
    assert rendezvous.meetings == []


# ---- a rule that was armed while ranks ran --------------------------------------------------------------------------


def test_a_rank_that_has_passed_releases_the_others_at_once() -> None:
    rendezvous = meet({0: stop(w=3)}, armed={0: {"w": 3}, 1: {"w": 4}})
    assert decide(rendezvous) == [("release", [0])]


def test_a_rank_that_is_surely_behind_is_waited_for() -> None:
    rendezvous = meet({0: stop(w=3)}, armed={0: {"w": 3}, 1: {"w": 2}})
    assert decide(rendezvous, WANTED_GRACE_S) == []
    assert decide(rendezvous, WANTED_GRACE_S + 0.01) == [("announce", [0])]


def test_unsure_is_released_after_the_grace_a_few_times_and_then_announced() -> None:
    rendezvous = meet({}, armed={0: {"w": 3}, 1: {"w": 3}})
    for _ in range(MAX_RETRIES):
        rendezvous.arrive(0, stop(w=3), NOW)
        assert decide(rendezvous, UNSURE_GRACE_S) == []
        assert decide(rendezvous, UNSURE_GRACE_S + 0.01) == [("release", [0])]
    rendezvous.arrive(0, stop(w=3), NOW)
    assert decide(rendezvous, UNSURE_GRACE_S + 0.01) == []
    assert decide(rendezvous, WANTED_GRACE_S + 0.01) == [("announce", [0])]


def test_while_a_rule_is_being_installed_nobody_is_known_to_come() -> None:
    rendezvous = meet({0: stop(w=3)}, armed={})
    assert decide(rendezvous) == []
    assert decide(rendezvous, UNSURE_GRACE_S + 0.01) == [("release", [0])]


def test_after_all_have_met_once_a_rule_is_no_longer_in_doubt() -> None:
    rendezvous = meet({0: stop(w=3), 1: stop(w=3)}, armed={0: {"w": 3}, 1: {"w": 3}})
    assert decide(rendezvous) == [("announce", [0, 1])]
    rendezvous.leave(0)
    rendezvous.leave(1)
    rendezvous.arrive(0, stop(w=4), NOW)
    assert decide(rendezvous, UNSURE_GRACE_S + 0.01) == []


def test_where_a_rank_is_parked_tells_more_than_where_it_was_armed() -> None:
    rendezvous = meet({1: stop("b", rule=2, w=9), 0: stop(w=3)}, armed={0: {"w": 1}, 1: {"w": 1}})
    assert ("release", [0]) in decide(rendezvous)


def test_a_rank_that_was_let_go_is_known_to_be_past_its_stop() -> None:
    # 1 was parked at w=5 and released. To take its clock of the arming (w=3) would be to wait for it at w=4 in vain.
    rendezvous = meet({1: stop(w=5)}, armed={0: {"w": 3}, 1: {"w": 3}})
    assert decide(rendezvous, UNSURE_GRACE_S - 0.1) == []
    rendezvous.leave(1)
    rendezvous.arrive(0, stop(w=4), NOW)
    assert decide(rendezvous) == [("release", [0])]


def test_release_and_announce_carry_the_meeting() -> None:
    rendezvous = meet({0: stop(), 1: stop()})
    (meeting,) = rendezvous.meetings
    assert rendezvous.decide({}, ALL, NOW) == [Announce(meeting)]
    assert Announce(meeting) != Release(meeting)


# ---- whole jobs -----------------------------------------------------------------------------------------------------

JOBS: dict[str, tuple[list[Visit | Sync | Step], dict[str, int]]] = {
    "data parallel": ([Visit("a"), Visit("b"), Sync("dp"), Visit("c"), Step()], {"dp": 4}),
    "dp x tp": ([Visit("a"), Sync("tp"), Visit("b"), Sync("tp"), Visit("c"), Sync("dp"), Step()], {"dp": 2, "tp": 2}),
    "2 x 4": ([Visit("a"), Sync("tp"), Visit("b"), Sync("dp"), Step()], {"dp": 2, "tp": 4}),
    "three axes": (
        [Visit("a"), Sync("tp"), Visit("b"), Sync("cp"), Visit("c"), Sync("dp"), Step()],
        {"dp": 2, "cp": 2, "tp": 2},
    ),
    "asynchronous": (
        [Visit("a"), Sync("tp", True), Visit("b"), Sync("tp"), Visit("c"), Sync("dp", True), Sync("dp"), Step()],
        {"dp": 2, "tp": 2},
    ),
    "called twice": (
        [Visit("b"), Sync("dp"), Visit("a"), Sync("tp"), Visit("a"), Sync("dp"), Step()],
        {"dp": 2, "tp": 2},
    ),
    "many collectives": ([Visit("a"), *[Sync("tp")] * 9, Visit("b"), *[Sync("dp")] * 9, Step()], {"dp": 2, "tp": 2}),
    "slow": ([Visit("a"), *[Sync("tp")] * 60, Visit("b"), *[Sync("dp")] * 60, Step()], {"dp": 2, "tp": 2}),
}
SEEDS = range(6)


def modules(program: list[Visit | Sync | Step]) -> list[str]:
    return [op.fqn for op in program if isinstance(op, Visit)]


def assert_together(simulation: Simulation, count: int | None = None) -> int:
    """All ranks have come to one visit, at last: those that are slow may join a stop that was shown without them."""
    if len(simulation.reports[-1].ranks) < (count or len(simulation.ranks)):
        simulation.run(30)
    report = simulation.reports[-1]
    visits = simulation.visits(report)
    assert len(report.ranks) == (count or len(simulation.ranks)), simulation.describe()
    assert len(visits) == 1, simulation.describe()
    assert len(report.clusters) == 1, simulation.describe()
    return visits.pop()


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", JOBS)
def test_all_ranks_stop_at_each_call_of_a_breakpoint(name: str, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    program, axes = JOBS[name]
    job = Simulation(seed, program, axes, monkeypatch)
    job.run(job.random.uniform(0, 0.5))
    where = job.random.choice(modules(program))
    job.break_(where)

    if not job.reports:
        job.wait()
    visits = [assert_together(job)]
    for _ in range(4):
        job.resume_and_wait()
        visits.append(assert_together(job))

    calls = [i for i, op in enumerate(program) if isinstance(op, Visit) and op.fqn == where]
    every = [turn * len(program) + call for turn in range(visits[0] // len(program), 99) for call in calls]
    first = every.index(visits[0])
    assert visits == every[first : first + 5]  # none is passed over


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", ["data parallel", "dp x tp", "three axes"])
def test_a_condition_stops_all_where_it_is_true_on_any(name: str, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    program, axes = JOBS[name]
    length = len(program)

    def wants(_rule: object, rank: int, visit: int) -> bool:
        return (visit // length * 7 + rank * 5 + seed) % 11 == 0

    job = Simulation(seed, program, axes, monkeypatch, wants=wants)
    job.run(job.random.uniform(0, 0.5))
    where = modules(program)[seed % len(modules(program))]
    job.break_(where, condition="x")
    if not job.reports:
        job.wait()
    visits = [assert_together(job)]
    for _ in range(3):
        job.resume_and_wait()
        visits.append(assert_together(job))

    offset = visits[0] % length
    true_at = [v for v in range(offset, visits[-1] + 1, length) if any(wants(0, r.number, v) for r in job.ranks)]
    assert visits == true_at[-4:]  # none is missed once the ranks have met


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", JOBS)
def test_steps_walk_from_module_to_module(name: str, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    program, axes = JOBS[name]
    job = Simulation(seed, program, axes, monkeypatch)
    job.run(job.random.uniform(0, 0.5))
    number = job.break_(modules(program)[0])
    if not job.reports:
        job.wait()
    visit = assert_together(job)
    job.session.delete_rule(number)
    for _ in range(5):
        job.session.step("step")
        job.wait()
        following = next(v for v in range(visit + 1, visit + 999) if isinstance(program[v % len(program)], Visit))
        visit = assert_together(job)
        assert visit == following


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", JOBS)
def test_finish_stops_all_at_the_end_of_the_module(name: str, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    program, axes = JOBS[name]
    job = Simulation(seed, program, axes, monkeypatch)
    job.break_(modules(program)[-1])
    if not job.reports:
        job.wait()
    visit = assert_together(job)
    job.session.step("finish")
    report = job.wait()
    assert assert_together(job) == visit
    assert report.clusters[0].stop.event.name == "forward-end"


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", JOBS)
def test_pause_stops_every_rank(name: str, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Together at a boundary that comes in time; else each where it is, but for those that wait for a parked one."""
    program, axes = JOBS[name]
    job = Simulation(seed, program, axes, monkeypatch)
    job.run(job.random.uniform(0, 2))
    job.session.pause()
    if not job.reports:
        job.wait(10)
    job.run(5)
    assert all(rank.parked or rank.waits_for for rank in job.ranks), job.describe()
    if {cluster.stop.event.name for cluster in job.reports[-1].clusters} == {"iteration"}:
        assert isinstance(program[assert_together(job) % len(program)], Step)
    job.session.resume()
    before = [rank.position for rank in job.ranks]
    job.run(10)
    assert all(rank.position > was for rank, was in zip(job.ranks, before, strict=True)), job.describe()


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", JOBS)
def test_ranks_that_go_on_run_forever(name: str, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A breakpoint set, hit, deleted while ranks are still coming: nobody stays behind."""
    program, axes = JOBS[name]
    job = Simulation(seed, program, axes, monkeypatch)
    job.run(job.random.uniform(0, 0.5))
    number = job.break_(modules(program)[0])
    if not job.reports:
        job.wait()
    job.session.delete_rule(number)
    job.session.resume()
    job.run(3)
    job.session.resume()  # those that had come late were shown as another stop
    before = [rank.position for rank in job.ranks]
    job.run(10)
    assert not any(rank.parked for rank in job.ranks), job.describe()
    assert all(rank.position > was for rank, was in zip(job.ranks, before, strict=True)), job.describe()


@pytest.mark.parametrize("seed", SEEDS)
def test_a_module_of_some_ranks_stops_those(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    first, last = frozenset({0, 1}), frozenset({2, 3})
    program = [Visit("stage0", first), Sync("pp"), Visit("stage1", last), Sync("pp"), Sync("dp"), Step()]
    job = Simulation(seed, program, {"pp": 2, "dp": 2}, monkeypatch)
    job.run(job.random.uniform(0, 0.5))
    job.break_("stage1")
    if not job.reports:
        job.wait()
    visits = [assert_together(job, 2)]
    assert job.reports[-1].ranks == last
    job.resume_and_wait()
    assert assert_together(job, 2) - visits[0] == len(program)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_watch_that_changes_on_one_rank_calls_the_others_to_its_side(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    program, axes = JOBS["dp x tp"]
    job = Simulation(
        seed, program, axes, monkeypatch, value=lambda rank, visit: "late" if rank == 2 and visit > 50 else "early"
    )
    job.session.add_rule(Watchpoint(id=0, expression="x"))
    report = job.wait()
    assert {rank for c in report.clusters if c.stop.event.name == "watch" for rank in c.ranks} == {2}
    job.run(3)
    assert all(rank.parked or rank.waits_for for rank in job.ranks), job.describe()
    job.session.resume()
    job.run(3)
    job.session.resume()
    before = [rank.position for rank in job.ranks]
    job.run(5)
    assert all(rank.position > was for rank, was in zip(job.ranks, before, strict=True)), job.describe()


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", ["data parallel", "dp x tp"])
def test_a_lost_rank_does_not_keep_the_stop_of_the_others(
    name: str, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    program, axes = JOBS[name]
    job = Simulation(seed, program, axes, monkeypatch)
    job.run(job.random.uniform(0, 0.5))
    job.break_(modules(program)[0])
    if not job.reports:
        job.wait()
    assert_together(job)
    job.kill(3)
    report = job.session.report()
    assert (report.ranks, report.others) == (frozenset({0, 1, 2}), {3: "lost: killed"})


@pytest.mark.parametrize("seed", SEEDS)
def test_two_breakpoints_take_turns(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    program, axes = JOBS["dp x tp"]
    job = Simulation(seed, program, axes, monkeypatch)
    job.run(job.random.uniform(0, 0.5))
    job.break_("b")
    if not job.reports:
        job.wait()
    assert_together(job)
    job.break_("a")
    job.break_("c")
    where = []
    for _ in range(6):
        job.resume_and_wait()
        where.append(program[assert_together(job) % len(program)].fqn)
    assert where == ["c", "a", "b"] * 2


@pytest.mark.parametrize("seed", SEEDS)
def test_two_breakpoints_that_are_set_while_the_ranks_run_never_hang(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    program, axes = JOBS["dp x tp"]
    job = Simulation(seed, program, axes, monkeypatch)
    job.run(job.random.uniform(0, 0.5))
    job.break_("a")
    job.break_("c")
    if not job.reports:
        job.wait()
    visits = []
    for _ in range(6):
        job.run(5)
        visits.append(job.visits(job.reports[-1]))
        job.resume_and_wait()
    assert all(len(visit) == 1 for visit in visits[1:]), visits


def test_calls_of_a_loop_without_a_collective_are_together_after_the_next_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """A limit: a breakpoint set in the middle of such a loop may first stop ranks at different rounds of it."""
    program = [*[Visit("x")] * 50, Sync("dp"), Step()]
    job = Simulation(5, program, {"dp": 4}, monkeypatch)
    job.run(0.2)
    job.break_("x")
    if not job.reports:
        job.wait()
    begun_in = job.reports[-1].clusters[0].stop.clock
    while job.reports[-1].clusters[0].stop.clock == begun_in or len(job.reports[-1].ranks) < 4:
        job.resume_and_wait()
        job.run(5)
    assert_together(job)


def test_a_job_that_stops_nowhere_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    program, axes = JOBS["data parallel"]
    job = Simulation(1, program, axes, monkeypatch)
    with pytest.raises(Deadlock):
        job.wait(5)
