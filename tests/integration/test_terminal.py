"""The console on a real terminal: what the user of the issue types and sees."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.bench import Job
from tests.bench.screen import Screen

Jobs = Callable[..., AbstractContextManager[Job]]


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Job]:
    """One job for all stories: each attaches and leaves it running."""
    from tests.bench import run_job

    with run_job("transformer_2d", nproc=4, runtime_dir=tmp_path_factory.mktemp("run")) as job:
        yield job


@pytest.fixture
def open_screen(job: Job, tmp_path: Path) -> Callable[..., Screen]:
    def open_one(*options: str, **env: str) -> Screen:
        return Screen(job, *options, env={"XDG_STATE_HOME": str(tmp_path), **env})

    return open_one


def normal(lines: list[str]) -> str:
    """The lines with numbers that vary as `#`: iterations, statistics, fingerprints, ids, seconds."""
    text = "\n".join(lines)
    text = re.sub(r"iteration \d+", "iteration #", text)
    text = re.sub(r"job [0-9a-f]{4}\b", "job #", text)
    text = re.sub(r"attached in [\d.]+ s", "attached in # s", text)
    text = re.sub(r"torch \d[\w.+]*", "torch #", text)
    text = re.sub(r" +-?\d+\.?\d*(e-\d+)? +\d\.?\d*(e-\d+)? +-\d\.\d+ +\d\.\d+ ", " # # # # ", text)
    return re.sub(r"\b[0-9a-f]{8}$", "########", text, flags=re.MULTILINE)


def test_the_session_of_the_readme(job: Job, open_screen: Callable[..., Screen]) -> None:
    with open_screen() as screen:
        screen.wait_for(screen.is_ready)
        assert normal(screen.body) == BANNER
        screen.wait_for(r"│ iteration [1-9]")
        assert re.fullmatch(
            r"[0-9a-f]{4} transformer_2d.py │ 4 running │ iteration \d+(, [\d.]+/s)? │ focus all", screen.toolbar
        )

        assert screen.run("break layer.0.atention") == UNKNOWN.split("\n")
        assert screen.run("break layer.0.attention")[:1] == [BREAK]
        screen.wait_for("● stopped")  # announced above the prompt, without having been waited for
        screen.wait_for(screen.is_ready)
        assert normal(screen.body[2:-1]) == STOP
        screen.wait_for(r"│ 4 stopped │")
        assert normal([screen.toolbar])[5:] == "transformer_2d.py │ 4 stopped │ iteration # │ focus all"

        assert normal(screen.run("continue")) == STOP
        assert "\n".join(screen.run("placements layer.0.attention")) == PLACEMENTS
        assert normal(screen.run("inspect layer.0.attention.wq.weight")) == INSPECT
        assert "\n".join(screen.run("shards layer.0.attention.wo.weight")) == SHARDS
        assert screen.run("@tp=1 print x.shape") == ["1,3   torch.Size([2, 16, 36])"]
        assert screen.run("focus tp=1") == ["focus tp=1 is ranks 1,3"]
        assert screen.toolbar.endswith("│ focus tp=1")
        assert screen.run("p x.shape") == ["1,3   torch.Size([2, 16, 36])"]

        screen.clear()
        screen.send("detach\r")
        assert screen.wait_for_end() == 0
        assert screen.lines[1:] == [DETACHED]
    job.wait_for_progress()


def test_tab_completes_one_part_at_a_time(open_screen: Callable[..., Screen]) -> None:
    with open_screen() as screen:
        screen.wait_for(screen.is_ready)
        for keys, line in [
            ("break lay\t", "break layer"),
            (".\t", "break layer."),  # 0 and 1 are offered
        ]:
            screen.send(keys)
            screen.wait_for(rf"\(distdbg\) {re.escape(line)}$")
        screen.wait_for(r"^ +0 +Block")
        screen.wait_for(r"^ +1 +Block")
        for keys, line in [
            ("0.att\t", "break layer.0.attention"),
            (".wq\t", "break layer.0.attention.wq"),
        ]:
            screen.send(keys)
            screen.wait_for(rf"\(distdbg\) {re.escape(line)}$")
        screen.send("\x15")  # Ctrl-U
        screen.send("@t\t")
        screen.wait_for(r"\(distdbg\) @tp=$")
        screen.send("1 plac\t")
        screen.wait_for(r"\(distdbg\) @tp=1 placements$")
        screen.send("\x03")
        screen.wait_for(screen.is_ready)
        screen.send("\x04")
        assert screen.wait_for_end() == 0


def test_stops_come_in_above_a_half_typed_line_and_ctrl_c_spares_the_job(
    job: Job, open_screen: Callable[..., Screen], tmp_path: Path
) -> None:
    flag = tmp_path / "stop"
    with open_screen() as screen:
        condition = f"__import__('os').path.exists({str(flag)!r})"
        screen.wait_for(screen.is_ready)
        screen.send(f"break layer.1.attention if {condition}\r")
        screen.wait_for("Breakpoint 1")
        screen.wait_for(screen.is_ready)

        screen.clear()
        screen.send("continue\r")
        screen.wait_for(lambda: screen.lines[:1] == ["(distdbg) continue"])
        job.wait_for_progress()
        screen.send("\x03")
        screen.wait_for("Interrupted")
        screen.wait_for(screen.is_ready)
        assert screen.body == ["(distdbg) continue", "^CInterrupted. The ranks go on as they were.", "(distdbg)"]
        job.wait_for_progress()

        screen.clear()
        screen.send("print x.sh")
        screen.wait_for(r"\(distdbg\) print x\.sh$")
        flag.touch()
        screen.wait_for("● stopped")
        screen.wait_for(lambda: screen.body[-1] == "(distdbg) print x.sh")
        assert normal(screen.body).replace(condition, "CONDITION").startswith("● stopped 0-3 · iteration # · forward ")
        assert screen.body[1] == "  transformer_2d.py:72 Block.forward"
        screen.send("ape\r")
        screen.wait_for(r"^0-3   torch.Size\(\[2, 16, 36\]\)$")
        flag.unlink()

        # The same with a breakpoint's own commands: they run at once, and the line comes back.
        screen.clear()
        screen.send("commands 1\r")
        screen.wait_for(r"^>$")
        screen.send("print x.dim()\rend\r")
        screen.wait_for("Breakpoint 1 runs 1 line at each stop")
        screen.wait_for(screen.is_ready)
        screen.send("continue\r")
        screen.wait_for(r"^\(distdbg\) continue$")
        job.wait_for_progress()
        screen.send("\x03")
        screen.wait_for("Interrupted")
        screen.clear()
        screen.send("status")
        screen.wait_for(r"\(distdbg\) status$")
        flag.touch()
        screen.wait_for("^0-3   3$")
        screen.wait_for(lambda: screen.body[-1] == "(distdbg) status")
        assert [line for line in screen.body if "(distdbg)" in line] == ["(distdbg) status"]
        screen.send("\r")
        screen.wait_for(r"0-3     stopped +\d+   forward layer.1.attention · breakpoint 1")

        screen.send("\x04")
        assert screen.wait_for_end() == 0
        assert screen.lines[-1] == DETACHED
    job.wait_for_progress()


def test_no_color(open_screen: Callable[..., Screen]) -> None:
    colours = re.compile(rb"\x1b\[(?:[\d;]*;)?3[1-6]m")
    for environ, has_colour in [({}, True), ({"NO_COLOR": "1"}, False)]:
        with open_screen(**environ) as screen:
            screen.run("status")
            screen.clear()
            screen.send("break nosuch\r")
            screen.wait_for("No module matches nosuch")
            screen.wait_for(screen.is_ready)
            assert bool(colours.search(screen.written)) is has_colour
            screen.send("quit\r")
            assert screen.wait_for_end() == 0


BANNER = """\
transformer_2d.py · job # · 4 ranks on 1 host · torch # gloo
attached in # s, not prepared
mesh dp=2 x tp=2 · Net, 29 modules, 39.0 k parameters, 11.5 k to 11.7 k on each rank
break MODULE and continue to stop the job; help for the rest.
(distdbg)"""

UNKNOWN = """\
No module matches layer.0.atention. Nearest: layer.0.attention, layer.1.attention, layer.0.n2
  (modules *attention lists 2)."""

BREAK = "Breakpoint 1: forward of layer.0.attention (Attention), ranks 0-3"

STOP = """\
● stopped 0-3 · iteration # · forward layer.0.attention · breakpoint 1
  transformer_2d.py:72 Block.forward
     71      def forward(self, x: torch.Tensor) -> torch.Tensor:
  →  72          x = x + self.attention(self.n1(x))
     73          return x + self.feed_forward(self.n2(x))
  x   f32[2, 16, 36]"""

PLACEMENTS = """\
                    global      dp       tp       local   per rank
wq.weight   f32   [36, 36]   _S(0, 2)   S(0)    [9, 36]    1.30 kB
wk.weight   f32   [36, 36]   _S(0, 2)   S(0)    [9, 36]    1.30 kB
wv.weight   f32   [36, 36]   _S(0, 2)   S(0)    [9, 36]    1.30 kB
wo.weight   f32   [36, 36]     S(0)     S(1)   [18, 18]    1.30 kB
all: unsharded now (all-gathered on dp)"""

INSPECT = """\
DTensor f32[36, 36] on dp=2 x tp=2, dp=_S(0, 2) tp=S(0), requires grad, no grad, unsharded now
  (all-gathered on dp)
rank  coordinate    local   offset      mean     std     min    max  nan  inf  zero  fingerprint
   0  dp=0 tp=0   [9, 36]   [0, 0] # # # #    0    0     0  ########
   1  dp=0 tp=1   [9, 36]  [18, 0] # # # #    0    0     0  ########
   2  dp=1 tp=0   [9, 36]   [9, 0] # # # #    0    0     0  ########
   3  dp=1 tp=1   [9, 36]  [27, 0] # # # #    0    0     0  ########"""

SHARDS = """\
f32[36, 36]  dp=S(0) tp=S(1)
            dim 1 · tp
          0        18        36
        0 ┌─────────┬─────────┐
          │    0    │    1    │
dim 0  18 ├─────────┼─────────┤
 dp       │    2    │    3    │
       36 └─────────┴─────────┘"""

DETACHED = "Detached: 4 ranks running, breakpoints and hooks removed, timeouts restored to 1800 s."
