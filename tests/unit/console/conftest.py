"""A session in memory: four ranks on a 2 x 2 mesh, whose tensors, stacks and stops are made up."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from distdbg.client.gather import Gathered
from distdbg.client.rule import Rule
from distdbg.client.state import RankState, StopCluster, StopReport
from distdbg.console.console import Console
from distdbg.console.output import JsonOutput, TextOutput
from distdbg.console.settings import Settings
from distdbg.reporters.terminal import Terminal
from distdbg.schema import message as m
from distdbg.schema.event import ForwardBegin
from distdbg.schema.ranks import RankContext
from distdbg.schema.stop import Frame, Stop
from distdbg.schema.tensor import Mesh, Module, Piece, Stats, Tensor

AXES, SIZES = ("dp", "tp"), (2, 2)


def coordinate_of(rank: int) -> tuple[int, int]:
    return divmod(rank, 2)


def cut(length: int, parts: int, index: int) -> tuple[int, int]:
    """[start, stop) of one shard, as torch.chunk cuts."""
    step = math.ceil(length / parts)
    return min(index * step, length), min((index + 1) * step, length)


def dtensor(fqn: str, shape: tuple[int, ...], placements: tuple[str, ...], rank: int, **fields: Any) -> Tensor:
    """A DTensor on dp x tp (or on dp alone, with one placement); strided axes are cut last."""
    axes, sizes = AXES[: len(placements)], SIZES[: len(placements)]
    coordinate = coordinate_of(rank)[: len(placements)]
    box = [(0, size) for size in shape]
    order = sorted(range(len(axes)), key=lambda axis: placements[axis].startswith("_"))
    for axis in order:
        word = placements[axis]
        if "S(" in word:
            dim = int(word[word.index("(") + 1])
            start, stop = box[dim]
            low, high = cut(stop - start, sizes[axis], coordinate[axis])
            box[dim] = (start + low, start + high)
    local = tuple(high - low for low, high in box)
    return Tensor(
        fqn=fqn, kind="DTensor", shape=shape, dtype="float32", device="cpu", axes=axes, mesh_shape=sizes,
        mesh_ranks=(0, 1, 2, 3) if len(axes) == 2 else (rank % 2, 2 + rank % 2), coordinate=coordinate,
        placements=placements, local_shape=local, offset=tuple(low for low, _ in box),
        local_bytes=4 * math.prod(local), requires_grad=True, **fields,
    )  # fmt: skip


TENSORS: dict[str, tuple[tuple[int, ...], tuple[str, ...]]] = {
    "emb.weight": ((101, 36), ("S(0)",)),
    "layer.0.attention.wq.weight": ((36, 36), ("_S(0, 2)", "S(0)")),
    "layer.0.attention.wk.weight": ((36, 36), ("_S(0, 2)", "S(0)")),
    "layer.0.attention.wo.weight": ((36, 36), ("S(0)", "S(1)")),
}
MODULES = ("", "emb", "layer", "layer.0", "layer.0.attention", "layer.0.attention.wq", "layer.0.attention.wk",
           "layer.0.attention.wo")  # fmt: skip
CLASSES = {"": "Net", "emb": "Embedding", "layer": "ModuleList", "layer.0": "Block", "layer.0.attention": "Attention"}
SOURCE = ((45, "    def forward(self, x):"), (46, ""), (47, "        x = x + self.attention(self.n1(x))"))


def stop_at(fqn: str = "layer.0.attention", **fields: Any) -> Stop:
    """A stop before a module's forward."""
    defaults: dict[str, Any] = {
        "breakpoint": 1,
        "iteration": 42,
        "hit": 1,
        "frames": (Frame(file="train.py", line=47, function="Block.forward", source=SOURCE),),
        "inputs": ("x   f32[4, 16, 36]",),
    }
    return Stop(event=ForwardBegin(fqn=fqn, class_name="Attention"), **{**defaults, **fields})


@dataclass
class Job:
    id: str = "8f3a"
    script: str = "train.py"
    run_id: str = "none"
    world_size: int = 4
    hostnames: tuple[str, ...] = ("node",)
    backend: str = "gloo"
    torch_version: str = "2.13.0"
    is_prepared: bool = False
    attached_in_s: float = 0.41
    missing_ranks: frozenset[int] = frozenset()


@dataclass
class FakeSession:
    """What the console uses of a session. `answers` maps a request's class to (rank, request) -> reply or failure;
    a str is the reason why that rank is missing."""

    job: Job = field(default_factory=Job)
    states: dict[int, RankState] = field(default_factory=lambda: {rank: RankState(rank) for rank in range(4)})
    rules: dict[int, Rule] = field(default_factory=dict)
    frame: int = 0
    focus_text: str = "all"
    answers: dict[type, Callable[[int, Any], Any]] = field(default_factory=dict)
    asked: list[tuple[Any, frozenset[int]]] = field(default_factory=list)
    stops: list[Any] = field(default_factory=list)
    did: list[str] = field(default_factory=list)
    callbacks: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._focus: frozenset[int] | None = None
        mesh = Mesh(axes=AXES, shape=SIZES, ranks=(0, 1, 2, 3), device="cpu")
        self.welcomes = {
            rank: m.Welcome(
                rank=rank, world_size=4, pid=4101 + rank, hostname="node", script="train.py", backend="gloo",
                torch_version="2.13.0", python_version="3.11", device="cpu", is_prepared=False, model="Net",
                num_modules=61, num_params=481_000, local_params=131_000, meshes=(mesh,),
            )
            for rank in range(4)
        }  # fmt: skip
        self.answers = {
            m.DescribeTensors: self._describe,
            m.ReadValues: self._read,
            m.Ping: lambda rank, request: m.Pong(iteration=41, is_stopped=False, activity="all_reduce, train.py:90"),
            m.ListMeshes: lambda rank, request: m.Meshes((mesh,)),
            m.ListModules: lambda rank, request: m.Modules(tuple(map(_module, MODULES))),
            m.ReadStack: lambda rank, request: m.Stack(frames=stop_at().frames, stop=self.states[rank].stop),
            **self.answers,
        }

    # ---- as the real one ----

    @property
    def focus(self) -> frozenset[int]:
        return frozenset(self.states) if self._focus is None else self._focus

    @focus.setter
    def focus(self, ranks: frozenset[int]) -> None:
        self._focus = ranks

    def context(self) -> RankContext:
        stopped = frozenset(rank for rank, state in self.states.items() if state.status == "stopped")
        ranks = frozenset(rank for rank, state in self.states.items() if state.status != "lost")
        where = {rank: dict(zip(AXES, coordinate_of(rank), strict=True)) for rank in ranks}
        return RankContext(ranks, stopped, ranks - stopped, where)

    def ask(self, request: Any, ranks: Any = None, *, timeout_s: float | None = None) -> Gathered:
        asked = self.focus if ranks is None else frozenset(ranks)
        self.asked.append((request, asked))
        found = {rank: self.answers[type(request)](rank, request) for rank in sorted(asked)}
        return Gathered(
            {rank: each for rank, each in found.items() if not isinstance(each, m.Failure | str)},
            {rank: each for rank, each in found.items() if isinstance(each, m.Failure)},
            {rank: each for rank, each in found.items() if isinstance(each, str)},
        )

    def names(self) -> m.Names:
        return m.Names(modules=MODULES, tensors=tuple(TENSORS), axes=AXES)

    def add_rule(self, breakpoint: Any) -> tuple[Rule, Gathered]:
        import msgspec

        rule = Rule(msgspec.structs.replace(breakpoint, id=len(self.rules) + 1))
        rule.matches = dict.fromkeys(self.states, (("layer.0.attention", "Attention"),))
        self.rules[rule.id] = rule
        return rule, Gathered({rank: m.Installed(matches=rule.matches[rank]) for rank in self.states})

    def delete_rule(self, number: int) -> None:
        del self.rules[number]

    def enable_rule(self, number: int, is_enabled: bool) -> None:
        self.rules[number].change(is_enabled=is_enabled)

    def set_condition(self, number: int, text: str) -> None:
        self.rules[number].change(condition=text)

    def ignore(self, number: int, count: int) -> None:
        self.rules[number].ignore_count = count

    def resume(self, ranks: Any = None) -> None:
        self.did.append("resume")

    def step(self, how: str) -> None:
        self.did.append(how)

    def pause(self) -> None:
        self.did.append("pause")

    def wait(self, timeout_s: float | None = None) -> StopReport | None:
        self.did.append("wait")
        report = self.stops.pop(0)
        if isinstance(report, BaseException):
            raise report
        if report is None:
            for state in self.states.values():
                state.status, state.lost_reason = "lost", "exited"
            return None
        for cluster in report.clusters:
            for rank in cluster.ranks:
                self.states[rank].status, self.states[rank].stop = "stopped", cluster.stop
        return report

    def subscribe(self, callback: Any) -> None:
        self.callbacks.append(callback)

    def detach(self) -> dict[int, Any]:
        return {rank: m.Detached(timeouts_s={"world": 1800.0}) for rank in self.context().ranks}

    def kill(self) -> None:
        self.did.append("kill")

    # ---- made-up answers ----

    def stop(self, *, ranks: tuple[int, ...] = (0, 1, 2, 3), **fields: Any) -> StopReport:
        """A report of these ranks stopped at layer.0.attention; queue it in `stops`."""
        return StopReport((StopCluster(frozenset(ranks), stop_at(**fields)),))

    def _describe(self, rank: int, request: m.DescribeTensors) -> Any:
        names = [name for name in TENSORS if name == request.name or name.startswith(request.name + ".")]
        if not names:
            return m.Failure(error="UnknownName", message=f"No tensor matches {request.name}. Nearest: emb.weight.")
        stats = Stats(count=324, mean=0.5 * rank, std=1.0, min=-2.0, max=2.0, num_nan=0, num_inf=0, num_zero=rank)
        extra = {"stats": stats, "fingerprint": f"xxh3:{rank:08x}ffff"} if request.with_stats else {}
        return m.Tensors(tuple(dtensor(name, *TENSORS[name], rank, **extra) for name in names))

    def _read(self, rank: int, request: m.ReadValues) -> Any:
        mine = dtensor(request.name, *TENSORS[request.name], rank)
        starts = tuple(map(max, mine.offset, request.starts))
        ends = [offset + size for offset, size in zip(mine.offset, mine.local_shape, strict=True)]
        sizes = tuple(min(a, b) - low for a, b, low in zip(ends, request.stops, starts, strict=True))
        if min(sizes) <= 0:
            return m.Values(dtype="float32")
        values = tuple((starts[0] + i) / 10 + (starts[1] + j) / 1000 for i in range(sizes[0]) for j in range(sizes[1]))
        return m.Values(pieces=(Piece(start=starts, shape=sizes, values=values),), dtype="float32")


def _module(fqn: str) -> Module:
    depth = fqn.count(".") + 1 if fqn else 0
    name = CLASSES.get(fqn, "Linear")
    return Module(
        fqn=fqn, class_name=name, depth=depth, num_params=1296, local_params=324, global_bytes=5184, local_bytes=1296
    )


@pytest.fixture
def session() -> FakeSession:
    return FakeSession()


@pytest.fixture
def stopped(session: FakeSession) -> FakeSession:
    """All ranks stopped at layer.0.attention."""
    for state in session.states.values():
        state.status, state.stop, state.iteration = "stopped", stop_at(), 42
    return session


@pytest.fixture
def console(session: FakeSession) -> Console:
    settings = Settings()
    return Console(session, TextOutput(settings, Terminal(width=100)), settings)  # type: ignore[arg-type]


@pytest.fixture
def json_console(session: FakeSession) -> Console:
    return Console(session, JsonOutput(), Settings())  # type: ignore[arg-type]


@pytest.fixture
def screen(console: Console, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """What the lines put on the screen: standard output, then standard error."""

    def run(*lines: str) -> str:
        for line in lines:
            console.run(line)
        captured = capsys.readouterr()
        return captured.out + captured.err

    return run


class Terminalless(io.StringIO):
    """Standard input of a pipe."""

    def isatty(self) -> bool:
        return False
