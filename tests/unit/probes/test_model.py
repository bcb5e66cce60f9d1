from __future__ import annotations

import gc
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest
import torch
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
from torch.distributed.fsdp.wrap import ModuleWrapPolicy

from distdbg.errors import AmbiguousName, UnknownName
from distdbg.probes.model import ModelIndex
from distdbg.probes.scan import Scan


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.wq = nn.Linear(4, 4)
        self.module = nn.Linear(4, 4)  # a legal name that DDP's prefix must not be confused with


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.ModuleList(nn.ModuleDict({"attention": Attention()}) for _ in range(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


NAMES = [fqn for fqn, _ in Net().named_modules()]


def names_of(model: nn.Module) -> list[str]:
    return [fqn for fqn, _ in ModelIndex([model]).modules()]


def test_plain_names_are_torchs() -> None:
    assert names_of(Net()) == NAMES


def test_checkpoint_and_compile_add_nothing_to_names() -> None:
    model = Net()
    model.layer[0] = checkpoint_wrapper(model.layer[0])
    model.layer[1]["attention"] = torch.compile(model.layer[1]["attention"])
    compiled = torch.compile(model)
    index = ModelIndex([compiled])
    assert [fqn for fqn, _ in index.modules()] == NAMES
    titles = {entry.fqn: entry.titles for entry in index.entries() if entry.titles}
    assert titles == {"": ("compile",), "layer.0": ("checkpoint",), "layer.1.attention": ("compile",)}
    assert isinstance(index.module_for_hooks("layer.0"), nn.ModuleDict)


def test_is_compiled_covers_what_is_inside() -> None:
    model = Net()
    model.layer[0] = torch.compile(model.layer[0])
    model.layer[1]["attention"].compile()
    other = nn.Linear(1, 1)
    index = ModelIndex([model, other])
    compiled = {fqn for fqn, _ in index.modules() if index.is_compiled(fqn)}
    assert compiled == {name for name in NAMES if name.startswith(("layer.0", "layer.1.attention"))}


def test_ddp_is_one_entry_whose_hooks_go_on_the_wrapper(be_rank: Callable[[int, int], None]) -> None:
    be_rank(0, 2)
    model = Net()
    wrapped = nn.parallel.DistributedDataParallel(model)
    index = ModelIndex([wrapped])
    assert [fqn for fqn, _ in index.modules()] == NAMES
    assert index.find_one("")[1] is model
    assert index.module_for_hooks("") is wrapped
    assert index.module_for_hooks("layer.0.attention.module") is model.layer[0]["attention"].module
    assert index.entries()[0].titles == ("DDP",)


def test_fsdp1_and_fsdp2_keep_names_and_classes(be_rank: Callable[[int, int], None]) -> None:
    be_rank(0, 2)
    flat = FullyShardedDataParallel(
        Net(), auto_wrap_policy=ModuleWrapPolicy({Attention}), device_id=torch.device("cpu")
    )
    index = ModelIndex([flat])
    assert [fqn for fqn, _ in index.modules()] == NAMES
    assert isinstance(index.module_for_hooks("layer.0.attention"), Attention)
    assert isinstance(index.module_for_hooks(""), Net)
    model = Net()
    mesh = init_device_mesh("cpu", (2,))
    fully_shard(model.layer[0]["attention"], mesh=mesh)
    fully_shard(model, mesh=mesh)
    entries = {entry.fqn: entry for entry in ModelIndex([model]).entries()}
    assert list(entries) == NAMES
    assert [entries[n].class_name for n in ("", "layer.0.attention")] == ["Net", "Attention"]
    assert entries[""].titles == ("FSDP2",)


def test_find_one_says_what_is_wrong() -> None:
    model = Net()
    index = ModelIndex([model])
    assert index.find_one("1.attention")[0] == "layer.1.attention"
    with pytest.raises(UnknownName, match=r"Nearest: layer\.0\.attention"):
        index.find_one("layer.0.atention")
    with pytest.raises(AmbiguousName, match=r"2 modules: layer\.0\.attention, layer\.1\.attention"):
        index.find_one("attention")
    assert index.find_one("Net")[0] == ""


def test_a_shared_module_is_found_once_and_under_both_names() -> None:
    model = Net()
    model.layer[1]["attention"] = model.layer[0]["attention"]
    index = ModelIndex([model])
    assert [fqn for fqn, _ in index.find("*.attention")] == ["layer.0.attention"]
    assert index.find_one("layer.1.attention")[1] is model.layer[0]["attention"]


def test_several_roots_prefix_only_what_is_ambiguous() -> None:
    class Critic(Net):
        def __init__(self) -> None:
            super().__init__()
            self.score = nn.Linear(1, 1)

    roots = [Net(), Critic()]
    index = ModelIndex(roots)
    names = [fqn for fqn, _ in index.modules()]
    assert names[:2] == ["Critic", "Critic.layer"]  # the larger one first
    assert "Net.layer.0.attention" in names
    assert "score" in names
    assert len(index.find("layer.0.attention")) == 2
    assert index.find_one("Net.layer.0.attention")[0] == "Net.layer.0.attention"
    assert index.find_one("Critic")[0] == "Critic"


def test_frozen_copy_comes_after_the_trained_one() -> None:
    trained, copy = Net(), Net().requires_grad_(False)
    assert ModelIndex([copy, trained]).roots()[0][1] is trained


def in_thread(work: Callable[[threading.Event], Any], look: Callable[[], Any]) -> Any:
    """Run `look` here while `work(done)` waits in another thread, as an agent looks at training."""
    ready, done = threading.Event(), threading.Event()

    def run() -> None:
        work_state = Holder(ready, done)
        work(work_state)  # type: ignore[arg-type]

    thread = threading.Thread(target=run)
    thread.start()
    try:
        assert ready.wait(30)
        return look()
    finally:
        done.set()
        thread.join(30)


class Holder:
    def __init__(self, ready: threading.Event, done: threading.Event) -> None:
        self.ready, self.done = ready, done

    def wait(self) -> None:
        self.ready.set()
        self.done.wait(30)


def test_roots_and_optimizers_are_found_in_frames_of_other_threads() -> None:
    class Trainer:
        def __init__(self) -> None:
            self.network = Net()
            self.optimizer = torch.optim.SGD(self.network.parameters())

        def fit(self, holder: Holder) -> None:
            holder.wait()

    trainer = Trainer()
    index = ModelIndex()

    def look() -> tuple[list[str], int]:
        index.refresh()
        labels = [label for label, root in index.roots() if root is trainer.network]
        return labels, sum(item is trainer.optimizer for item in index.optimizers())

    # `trainer` is a plain local here; only the frame of fit has it as `self`
    assert in_thread(trainer.fit, look) == (["network"], 1)  # type: ignore[arg-type]


def test_reading_a_frame_leaves_no_reference_in_it() -> None:
    """f_locals before 3.13 would keep the tensors of this iteration alive until the function returns."""
    counts: list[int] = []

    def work(holder: Holder) -> None:
        model = Net()
        before = sys.getrefcount(model)
        holder.wait()
        counts.append(sys.getrefcount(model) - before)

    found = in_thread(work, lambda: [name for name, _ in Scan(nn.Module).in_frames()])  # type: ignore[arg-type]
    assert "model" in found
    assert counts == [0]


def test_a_scan_leaves_no_frame_of_its_own_behind() -> None:
    """A frame that refers to itself would keep all that was found until the next garbage collection."""

    def look() -> int:
        gc.collect()
        gc.disable()
        try:
            Scan(nn.Module).in_frames()
            frames = [item for item in gc.get_objects() if isinstance(item, FrameType)]
            return sum(frame.f_code.co_filename.endswith("probes/scan.py") for frame in frames)
        finally:
            gc.enable()

    other: list[int] = []
    assert in_thread(Holder.wait, look) == 0  # type: ignore[arg-type]
    thread = threading.Thread(target=lambda: other.append(look()))
    thread.start()
    thread.join(30)
    assert other == [0]


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="f_locals is a view of the frame")
def test_a_dict_that_somebody_else_reads_is_not_emptied() -> None:
    """The evaluation of an expression holds the frame's dict while a name is looked up."""
    model = Net()
    held = sys._getframe().f_locals
    Scan(nn.Module).in_frames()
    assert held["model"] is model


def test_a_dict_from_locals_is_left_alone() -> None:
    kept: list[dict[str, Any]] = []

    def work(holder: Holder) -> None:
        model = Net()
        kept.append(locals())
        holder.wait()

    names = in_thread(work, lambda: [name for name, _ in Scan(nn.Module).in_frames()])  # type: ignore[arg-type]
    assert set(kept[0]) == {"holder", "kept", "model"}
    assert sys.version_info >= (3, 13) or "model" not in names


def test_heap_scan_finds_what_no_frame_shows_and_holds_nothing() -> None:
    class Hidden(nn.Linear):
        pass

    box = [[Hidden(3, 3)]]
    index = ModelIndex()
    index.refresh(is_deep=True)
    assert any(type(root) is Hidden for _, root in index.roots())
    box.clear()
    gc.collect()
    assert not any(type(root) is Hidden for _, root in index.roots())
