"""Rank sets as they are typed and shown."""

from __future__ import annotations

import random

import pytest

from distdbg.errors import UsageError
from distdbg.schema.ranks import RankContext, format_ranks, parse_ranks

CONTEXT = RankContext(
    frozenset(range(8)),
    stopped=frozenset({0, 1, 2}),
    running=frozenset({3, 4, 5, 6, 7}),
    coordinates={rank: {"dp": rank // 4, "tp": rank % 4} for rank in range(8)},
)


@pytest.mark.parametrize(
    ("ranks", "text"),
    [
        ([], "none"),
        ([3], "3"),
        ([0, 1], "0-1"),
        ([0, 1, 2, 7], "0-2,7"),
        ([7, 2, 1, 0, 0], "0-2,7"),
        ([0, 2, 4], "0,2,4"),
        (range(100), "0-99"),
        ([9, 10, 99, 100], "9-10,99-100"),
    ],
)
def test_format(ranks: list[int], text: str) -> None:
    assert format_ranks(ranks) == text


def test_what_is_shown_can_be_typed() -> None:
    draw = random.Random(0)
    context = RankContext(frozenset(range(40)))
    for _ in range(200):
        ranks = frozenset(draw.sample(range(40), draw.randint(1, 40)))
        assert parse_ranks(format_ranks(ranks), context) == ranks


@pytest.mark.parametrize(
    ("text", "ranks"),
    [
        ("3", {3}),
        ("0-2", {0, 1, 2}),
        ("0-1,7", {0, 1, 7}),
        (" 0 , 2 ,", {0, 2}),
        ("all", set(range(8))),
        ("stopped", {0, 1, 2}),
        ("running", {3, 4, 5, 6, 7}),
        ("stopped,7", {0, 1, 2, 7}),
        ("dp=1", {4, 5, 6, 7}),
        ("tp=0:2", {0, 1, 4, 5}),
        ("tp=1:99", {1, 2, 3, 5, 6, 7}),
        ("dp=0,tp=1", {1}),
        ("tp=1,dp=0:2", {1, 5}),
        ("7,dp=0,tp=1", {1, 7}),  # axes narrow each other, not the plain ranks
        ("!0", set(range(1, 8))),
        ("!0,!7", set(range(1, 7))),
        ("!tp=0", {1, 2, 3, 5, 6, 7}),
        ("!stopped", {3, 4, 5, 6, 7}),
        ("!0-3", {4, 5, 6, 7}),
        ("stopped,!0", {1, 2}),
        ("dp=0,!tp=1", {0, 2, 3}),
        ("!1,all", {0, 2, 3, 4, 5, 6, 7}),
    ],
)
def test_parse(text: str, ranks: set[int]) -> None:
    assert parse_ranks(text, CONTEXT) == ranks


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "An empty rank set. Expected ranks such as 0-3,7, all, stopped, running or AXIS=INDEX."),
        (" , ", "An empty rank set. Expected ranks such as 0-3,7, all, stopped, running or AXIS=INDEX."),
        ("some", "'some' is no rank set. Expected 0-3,7, all, stopped, running or AXIS=INDEX."),
        ("0-", "'0-' is no rank set. Expected 0-3,7, all, stopped, running or AXIS=INDEX."),
        ("-1", "'-1' is no rank set. Expected 0-3,7, all, stopped, running or AXIS=INDEX."),
        ("1.5", "'1.5' is no rank set. Expected 0-3,7, all, stopped, running or AXIS=INDEX."),
        ("!", "'' is no rank set. Expected 0-3,7, all, stopped, running or AXIS=INDEX."),
        ("tp=", "'tp=' is no rank set. Expected 0-3,7, all, stopped, running or AXIS=INDEX."),
        ("8", "No rank 8: this job has ranks 0-7."),
        ("5-9", "No rank 5-9: this job has ranks 0-7."),
        ("3-1", "No rank 3-1: this job has ranks 0-7."),
        ("pp=0", "No mesh axis 'pp': this job's axes are dp, tp."),
        ("tp=4", "No rank has tp=4."),
        ("tp=2:2", "No rank has tp=2:2."),
        ("0,!0", "No rank is in '0,!0' now."),
        ("!all", "No rank is in '!all' now."),
        ("dp=0,dp=1", "No rank is in 'dp=0,dp=1' now."),
    ],
)
def test_what_is_wrong_is_named(text: str, message: str) -> None:
    with pytest.raises(UsageError) as raised:
        parse_ranks(text, CONTEXT)
    assert str(raised.value) == message


def test_without_a_mesh_there_are_no_axes() -> None:
    with pytest.raises(UsageError, match=r"No mesh axis 'tp': this job's axes are none\."):
        parse_ranks("tp=0", RankContext(frozenset({0})))


def test_nothing_stopped_is_said_so() -> None:
    with pytest.raises(UsageError, match=r"No rank is in 'stopped' now\."):
        parse_ranks("stopped", RankContext(frozenset({0, 1}), running=frozenset({0, 1})))


def test_a_huge_range_costs_nothing() -> None:
    with pytest.raises(UsageError, match=r"No rank 0-99999999999: this job has ranks 0-7\."):
        parse_ranks("0-99999999999", CONTEXT)


def test_ranks_outside_an_axis_are_not_at_its_first_index() -> None:
    context = RankContext(frozenset({0, 1, 2}), coordinates={0: {"tp": 0}, 1: {"tp": 1}, 2: {}})
    assert parse_ranks("tp=0:9", context) == {0, 1}
    assert context.axes == ("tp",)
