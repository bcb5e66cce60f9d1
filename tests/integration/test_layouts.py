"""Every way in which a tensor lies on a mesh, drawn and read on a real job."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from contextlib import AbstractContextManager

from tests.bench import Job, Result, console

Jobs = Callable[..., AbstractContextManager[Job]]
LIVE = "live: read while the ranks run, pieces may be of different iterations\n"


def test_every_layout(jobs: Jobs) -> None:
    """One console reads them all; its output is cut at the lines that `!` prints before each command."""
    with jobs("layouts", nproc=4) as job:
        words = [word for command in SCREENS for word in (f"!print('> {command}')", command)]
        shown = console(job, *words, options=())
        told = console(job, "placements", "inspect some", "values strided[2:4, 0]", "values woven[1:3, 0]")
        job.wait_for_progress()
    assert not shown.stderr
    parts = dict(part.split("\n", 1) for part in shown.stdout.split("> ")[1:])
    for command, wanted in SCREENS.items():
        assert parts[command].replace(LIVE, "").rstrip("\n") == textwrap.dedent(wanted).strip("\n"), command

    by_rank = told.by_rank("placements")
    for rank in range(4):
        tensors = {tensor["fqn"]: tensor for tensor in by_rank[rank]}
        dp, tp = divmod(rank, 2)
        assert tensors["cube"]["offset"] == [2 * dp, 0, 3 * tp]
        assert tensors["strided"]["offset"] == [4 * tp + 2 * dp, 0]
        assert tensors["empty"]["local_shape"] == [int(rank < 2), 3]
        assert tensors["term"]["placements"] == ["P(sum)"]
        assert tensors["some"]["coordinate"] == (None if rank % 2 else [dp])
        assert "placements" not in tensors["alone"]
    assert _values(told, "values strided[2:4, 0]") == {2: [6.0, 9.0]}
    assert _values(told, "values woven[1:3, 0]") == {0: [3.0], 2: [6.0]}


def _values(told: Result, command: str) -> dict[int, list[float]]:
    """rank -> the values that it was asked for."""
    return {
        rank: [v for piece in data["pieces"] for v in piece["values"]] for rank, data in told.by_rank(command).items()
    }


SCREENS = {
    "placements": """
                          global      dp       tp     all     half          local   per rank
    cube      f32      [4, 3, 6]     S(0)     S(2)     ·       ·        [2, 3, 3]       72 B
    box       f32      [4, 6, 5]     S(1)     S(1)     ·       ·        [4, 2, 5]      160 B   ranks 0,2
                                                                        [4, 1, 5]       80 B   ranks 1,3
    uneven    f32         [7, 3]      ·        ·      S(0)     ·           [2, 3]       24 B   ranks 0-2
                                                                           [1, 3]       12 B   rank 3
    empty     f32         [2, 3]      ·        ·      S(0)     ·           [1, 3]       12 B   ranks 0-1
                                                                           [0, 3]        0 B   ranks 2-3 empty
    same      f32         [4, 4]      R        R       ·       ·           [4, 4]       64 B
    rows      f32         [6, 4]     S(0)      R       ·       ·           [3, 4]       48 B
    strided   f32         [8, 3]   _S(0, 2)   S(0)     ·       ·           [2, 3]       24 B
    woven     f32         [8, 3]   _S(0, 2)    R       ·       ·           [4, 3]       48 B
    deep      f32   [4, 2, 4, 2]     S(1)     S(3)     ·       ·     [4, 1, 4, 1]       64 B
    scalar    f32             []      R        R       ·       ·               []        4 B
    term      f32         [2, 2]      ·        ·     P(sum)    ·           [2, 2]       16 B
    some      f32         [4, 3]      ·        ·       ·      S(0)         [2, 3]       24 B   ranks 0,2
                                                                             none        0 B   ranks 1,3 outside the mesh
    alone     f32            [3]      ·        ·       ·       ·              [3]       12 B    plain
    """,  # noqa: E501
    "mesh": """
    dp=2 x tp=2 · cpu · ranks 0-3
               tp 0   tp 1
        dp 0      0      1
        dp 1      2      3
    all=4 · cpu · ranks 0-3
    half=2 · cpu · ranks 0,2
    """,
    "shards cube": """
    f32[4, 3, 6]  dp=S(0) tp=S(2)
               dim 2 · tp
             0         3         6
           0 ┌─────────┬─────────┐
             │    0    │    1    │
    dim 0  2 ├─────────┼─────────┤
     dp      │    2    │    3    │
           4 └─────────┴─────────┘
    """,
    "shards box": """
    f32[4, 6, 5]  dp=S(1) tp=S(1)
    dim 1 · dp tp
    0         2         3         5         6
    ┌─────────┬─────────┬─────────┬─────────┐
    │    0    │    1    │    2    │    3    │
    └─────────┴─────────┴─────────┴─────────┘
    """,
    "shards uneven": """
    f32[7, 3]  all=S(0)
    dim 0 · all
    0         2         4         6         7
    ┌─────────┬─────────┬─────────┬─────────┐
    │    0    │    1    │    2    │    3    │
    └─────────┴─────────┴─────────┴─────────┘
    """,
    "shards empty": """
    f32[2, 3]  all=S(0)
    dim 0 · all
    0         1         2
    ┌─────────┬─────────┐
    │    0    │    1    │
    └─────────┴─────────┘
    empty: 2-3
    """,
    "shards same": """
    f32[4, 4]  dp=R tp=R
    dim 1
    0         4
    ┌─────────┐
    │   0-3   │
    └─────────┘
    """,
    "shards rows": """
    f32[6, 4]  dp=S(0) tp=R
    dim 0 · dp
    0         3         6
    ┌─────────┬─────────┐
    │   0-1   │   2-3   │
    └─────────┴─────────┘
    """,
    "shards strided": """
    f32[8, 3]  dp=_S(0, 2) tp=S(0)
    dim 0 · tp dp
    0         2         4         6         8
    ┌─────────┬─────────┬─────────┬─────────┐
    │    0    │    2    │    1    │    3    │
    └─────────┴─────────┴─────────┴─────────┘
    """,
    "shards woven": """
    f32[8, 3]  dp=_S(0, 2) tp=R
    The shards are not contiguous: rows interleave. First index and local shape of each:
      ranks    block    local
      0-1     [0, 0]   [4, 3]
      2-3     [2, 0]   [4, 3]
    """,
    "shards deep": """
    f32[4, 2, 4, 2]  dp=S(1) tp=S(3)
               dim 3 · tp
             0         1         2
           0 ┌─────────┬─────────┐
             │    0    │    1    │
    dim 1  1 ├─────────┼─────────┤
     dp      │    2    │    3    │
           2 └─────────┴─────────┘
    """,
    "shards scalar": """
    f32[]  dp=R tp=R
    scalar
    0         1
    ┌─────────┐
    │   0-3   │
    └─────────┘
    """,
    "shards term": """
    f32[2, 2]  all=P(sum)
    dim 1
    0         2
    ┌─────────┐
    │   0-3   │
    └─────────┘
    partial on all: the value is the sum of what the all ranks hold
    """,
    "shards some": """
    f32[4, 3]  half=S(0)
    dim 0 · half
    0         2         4
    ┌─────────┬─────────┐
    │    0    │    2    │
    └─────────┴─────────┘
    outside the mesh: 1,3
    """,
    "shards alone": """
    f32[3]  plain Tensor
    dim 0
    0         3
    ┌─────────┐
    │   0-3   │
    └─────────┘
    plain: each rank holds its own whole copy
    """,
    "values cube[1:3, 1, 2:4]": """
    [:, 1, :]
             2        3
    1  26.0000  27.0000    ranks 0-1
    2  44.0000  45.0000    ranks 2-3
    """,
    "values uneven[-2:, 2]": """
          5        6
    17.0000  20.0000    ranks 2-3
    """,
    "values woven[0:8, 0:2]": """
             0        1
    0   0.0000   1.0000    rank 0
    1   3.0000   4.0000    rank 0
    2   6.0000   7.0000    rank 2
    3   9.0000  10.0000    rank 2
    4  12.0000  13.0000    rank 0
    5  15.0000  16.0000    rank 0
    6  18.0000  19.0000    rank 2
    7  21.0000  22.0000    rank 2
    """,
    "values term": """
            0       1
    0  0.0000  0.0000    rank 0
    1  0.0000  0.0000    rank 0
    partial on all: these are one rank's terms, not the value
    """,
    "stats woven": """
           ranks  count  mean   std  min  max  nan  inf  zero
    woven    0-1     12   8.5  6.24    0   17    0    0     1
             2-3     12  14.5  6.24    6   23    0    0     0
           whole     24  11.5  6.92    0   23    0    0     1
    live: read while the rank runs, values may be of different iterations
    """,
}
