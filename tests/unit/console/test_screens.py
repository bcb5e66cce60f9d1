"""Whole screens, as docs promise them."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from typing import Any

from distdbg.client.state import StopCluster, StopReport
from distdbg.console.banner import banner
from distdbg.reporters.terminal import Terminal
from distdbg.reporters.text import draw
from distdbg.schema import message as m
from distdbg.schema.event import Watched
from distdbg.schema.stop import Stop

Screen = Callable[..., str]


def expect(shown: str, wanted: str) -> None:
    assert shown.rstrip("\n") == textwrap.dedent(wanted).strip("\n")


def test_banner(session: Any) -> None:
    expect(
        draw(banner(session), Terminal()),
        """
        train.py · job 8f3a · 4 ranks on 1 host · torch 2.13.0 gloo · attached in 0.4 s, not prepared
        mesh dp=2 x tp=2 · Net, 61 modules, 481 k parameters, 131 k on each rank
        break MODULE and continue to stop the job; help for the rest.
        """,
    )


def test_break_and_continue(screen: Screen, session: Any) -> None:
    session.stops = [session.stop()]
    expect(
        screen("break layer.0.attention", "continue"),
        """
        Breakpoint 1: forward of layer.0.attention (Attention), ranks 0-3
        ● stopped 0-3 · iteration 42 · forward layer.0.attention · breakpoint 1
          train.py:47 Block.forward
             45      def forward(self, x):
             46
          →  47          x = x + self.attention(self.n1(x))
          x   f32[4, 16, 36]
        """,
    )


def test_one_rank_elsewhere(screen: Screen, session: Any) -> None:
    report = session.stop(ranks=(0, 1, 2), frames=(), inputs=())
    session.stops = [StopReport(report.clusters, {3: "running, 6.2 s in all_reduce (world #812)"})]
    expect(
        screen("continue"),
        """
        ● stopped 0-2 · iteration 42 · forward layer.0.attention · breakpoint 1
          3       running, 6.2 s in all_reduce (world #812)
        """,
    )


def test_a_watchpoint(screen: Screen, session: Any) -> None:
    change = Watched(expression="w", old="(9, 36) xxh3:2faf", new="(9, 36) xxh3:fc75", at_event="iteration")
    stop = Stop(event=change, breakpoint=1, iteration=7, hit=1)
    session.stops = [StopReport((StopCluster(frozenset({1, 3}), stop),))]
    expect(
        screen("continue"),
        """
        ● stopped 1,3 · iteration 7 · watch w · watchpoint 1
          was (9, 36) xxh3:2faf
          now (9, 36) xxh3:fc75   seen at the end of the iteration
        """,
    )


def test_two_places(screen: Screen, session: Any) -> None:
    first, second = session.stop(ranks=(0, 1), frames=(), inputs=()), session.stop(ranks=(2, 3), iteration=43)
    session.stops = [StopReport((*first.clusters, StopCluster(frozenset({2, 3}), second.clusters[0].stop)))]
    shown = screen("continue").splitlines()
    assert shown[0] == "● stopped 0-1 · iteration 42 · forward layer.0.attention · breakpoint 1"
    assert shown[1] == "● stopped 2-3 · iteration 43 · forward layer.0.attention · breakpoint 1"


def test_placements_of_a_module(screen: Screen) -> None:
    expect(
        screen("placements layer.0.attention"),
        """
                            global      dp       tp       local   per rank
        wq.weight   f32   [36, 36]   _S(0, 2)   S(0)    [9, 36]    1.30 kB
        wk.weight   f32   [36, 36]   _S(0, 2)   S(0)    [9, 36]    1.30 kB
        wo.weight   f32   [36, 36]     S(0)     S(1)   [18, 18]    1.30 kB
        """,
    )


def test_placements_of_an_uneven_tensor(screen: Screen) -> None:
    expect(
        screen("pl emb.weight"),
        """
                              global    dp       local   per rank
        emb.weight   f32   [101, 36]   S(0)   [51, 36]    7.34 kB   ranks 0-1
                                              [50, 36]    7.20 kB   ranks 2-3
        not on tp: each tp rank should hold the same; inspect shows their fingerprints
        """,
    )


def test_shards(screen: Screen) -> None:
    expect(
        screen("shards layer.0.attention.wo.weight"),
        """
        f32[36, 36]  dp=S(0) tp=S(1)
                    dim 1 · tp
                  0        18        36
                0 ┌─────────┬─────────┐
                  │    0    │    1    │
        dim 0  18 ├─────────┼─────────┤
         dp       │    2    │    3    │
               36 └─────────┴─────────┘
        """,
    )


def test_shards_along_one_dim(screen: Screen) -> None:
    expect(
        screen("shards layer.0.attention.wq.weight", "shards emb.weight"),
        """
        f32[36, 36]  dp=_S(0, 2) tp=S(0)
        dim 0 · tp dp
        0         9        18        27        36
        ┌─────────┬─────────┬─────────┬─────────┐
        │    0    │    2    │    1    │    3    │
        └─────────┴─────────┴─────────┴─────────┘
        f32[101, 36]  dp=S(0)
        dim 0 · dp
        0        51       101
        ┌─────────┬─────────┐
        │   0-1   │   2-3   │
        └─────────┴─────────┘
        not on tp: each tp rank should hold the same; inspect shows their fingerprints
        """,
    )


def test_values_are_asked_only_of_owners(screen: Screen, session: Any) -> None:
    expect(
        screen("values layer.0.attention.wq.weight[17:19, 0:3]"),
        """
                 0       1       2
        17  1.7000  1.7010  1.7020    rank 2
        18  1.8000  1.8010  1.8020    rank 1
        """,
    )
    assert [ranks for request, ranks in session.asked if isinstance(request, m.ReadValues)] == [frozenset({1, 2})]


def test_inspect(screen: Screen) -> None:
    expect(
        screen("@0,1 inspect layer.0.attention.wq.weight"),
        """
        DTensor f32[36, 36] on dp=2 x tp=2, dp=_S(0, 2) tp=S(0), requires grad, no grad
        rank  coordinate    local   offset  mean  std  min  max  nan  inf  zero  fingerprint
           0  dp=0 tp=0   [9, 36]   [0, 0]     0    1   -2    2    0    0     0  00000000
           1  dp=0 tp=1   [9, 36]  [18, 0]   0.5    1   -2    2    0    0     1  00000001
        """,
    )


def test_stats_of_the_whole(screen: Screen) -> None:
    expect(
        screen("stats layer.0.attention.wq.weight"),
        """
                                     ranks  count  mean   std  min  max  nan  inf  zero
        layer.0.attention.wq.weight      0    324     0     1   -2    2    0    0     0
                                         1    324   0.5     1   -2    2    0    0     1
                                         2    324     1     1   -2    2    0    0     2
                                         3    324   1.5     1   -2    2    0    0     3
                                     whole   1296  0.75  1.15   -2    2    0    0     6
        """,
    )


def test_print_merges_and_marks_notes(screen: Screen, session: Any) -> None:
    note = "local part only: W is Shard on tp"
    values = {0: "-1.28", 1: "0.94"}
    session.answers[m.Evaluate] = lambda rank, request: m.Evaluated(repr=values[rank % 2], note=note)
    expect(
        screen("print W.sum()"),
        """
        0,2   -1.28   local part only: W is Shard on tp
        1,3    0.94   "
        """,
    )


def test_a_refused_collective(screen: Screen, session: Any) -> None:
    message = "it would all_gather on dp (ranks 0,2) while only rank 0 evaluates, and hang the job."
    session.answers[m.Evaluate] = lambda rank, request: m.Failure(error="WouldDeadlock", message=message)
    assert screen("@0 print w.full_tensor()") == (
        f"Refused: {message}\nvalues NAME[...] needs no collective; @0,2 print ... runs it on the whole group.\n"
    )


def test_missing_and_failing_ranks_are_named(screen: Screen, session: Any) -> None:
    answers = {
        0: m.Evaluated(repr="1"),
        1: m.Evaluated(repr="1"),
        2: "gil-held",
        3: m.Failure(error="EvaluationError", message="NameError: name 'x' is not defined"),
    }
    session.answers[m.Evaluate] = lambda rank, request: answers[rank]
    expect(
        screen("print x"),
        """
        0-1   1
        3   NameError: name 'x' is not defined
        no answer from rank 2: alive, but its Python does not run (something holds the GIL)
        """,
    )


def test_where_joins_equal_stacks(screen: Screen, stopped: Any) -> None:
    stopped.states[3].status, stopped.states[3].stop = "running", None
    expect(
        screen("where"),
        """
        0-2   stopped · iteration 42 · forward layer.0.attention · breakpoint 1
          →  0  train.py:47 Block.forward
             45      def forward(self, x):
             46
          →  47          x = x + self.attention(self.n1(x))
        3   running (live sample)
             0  train.py:47 Block.forward
             45      def forward(self, x):
             46
          →  47          x = x + self.attention(self.n1(x))
        """,
    )


def test_status_and_mesh(screen: Screen, stopped: Any) -> None:
    stopped.states[2].status, stopped.states[2].stop, stopped.states[2].lost_reason = "lost", None, "exited"
    stopped.states[3].status, stopped.states[3].stop = "running", None
    expect(
        screen("status", "mesh"),
        """
        ranks   state     iteration   at
        0-1     stopped          42   forward layer.0.attention · breakpoint 1
        2       lost             42   exited
        3       running          42   all_reduce, train.py:90
        dp=2 x tp=2 · cpu · ranks 0-3
                   tp 0   tp 1
            dp 0      0      1
            dp 1      2      3
        """,
    )


def test_modules(screen: Screen) -> None:
    expect(
        screen("modules --depth 2"),
        """
                   class        parameters    global   per rank
        (root)     Net              1.30 k   5.18 kB    1.30 kB
        ├─ emb     Embedding        1.30 k   5.18 kB    1.30 kB
        └─ layer   ModuleList       1.30 k   5.18 kB    1.30 kB
           └─ 0    Block            1.30 k   5.18 kB    1.30 kB
        """,
    )


def test_info_breakpoints(screen: Screen, session: Any) -> None:
    shown = screen("@tp=1 break layer.0.attention if x.sum() > 0", "ignore 1 3", "info breakpoints")
    expect(
        shown,
        """
        Breakpoint 1: forward of layer.0.attention (Attention), ranks 1,3, if x.sum() > 0
        Breakpoint 1 passes the next 3 hits
        id   stops at                       ranks   hits   state          condition
         1   forward of layer.0.attention   1,3        0   on, passes 3   x.sum() > 0
        """,
    )


def test_quit_says_what_was_restored(screen: Screen) -> None:
    assert screen("quit") == (
        "Detached: 4 ranks running, breakpoints and hooks removed, timeouts restored to 1800 s.\n"
    )
