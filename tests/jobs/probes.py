"""Builds one model per way of sharding, asks the probes in-process and compares with the gathered truth.

The job itself may communicate; a probe that does is counted and fails the case. Prints `ok CASE RANK` per case.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FullyShardedDataParallel, ShardingStrategy, fully_shard
from torch.distributed.fsdp.wrap import ModuleWrapPolicy
from torch.distributed.tensor import DTensor
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

from distdbg.probes import Context, ModelIndex, run_probe
from distdbg.schema import message as m
from distdbg.schema.tensor import Piece, Tensor

NUM_CALLS = [0]
NUM_GATHERS = [0]


def count_collectives() -> torch.library.Library:
    """Count every c10d op at the dispatcher, below all Python entry points."""
    library = torch.library.Library("c10d", "IMPL")
    for full in torch._C._dispatch_get_all_op_names():
        namespace, _, name = full.partition("::")
        if namespace != "c10d" or "." in name:
            continue
        op = getattr(torch.ops.c10d, name).default

        def kernel(keys: Any, *args: Any, __op: Any = op, **kwargs: Any) -> Any:
            NUM_CALLS[0] += 1
            return __op.redispatch(keys.remove(torch._C.DispatchKey.BackendSelect), *args, **kwargs)

        library.impl(name, kernel, "BackendSelect", with_keyset=True)
    return library


@contextmanager
def silent() -> Iterator[None]:
    before = NUM_CALLS[0]
    yield
    assert NUM_CALLS[0] == before, f"{NUM_CALLS[0] - before} collectives were issued by a probe"


class Attention(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.wq = nn.Linear(width, width, bias=False)
        self.wo = nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.wo(self.wq(x).tanh())


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.attention = Attention(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.attention(self.norm(x))


class Net(nn.Module):
    def __init__(self, width: int, num_layers: int = 2) -> None:
        super().__init__()
        self.emb = nn.Embedding(13, width)
        self.layer = nn.ModuleList(Block(width) for _ in range(num_layers))
        self.head = nn.Linear(width, 13, bias=False)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.emb(tokens)
        for block in self.layer:
            x = block(x)
        return self.head(x)


def train(model: nn.Module, optimizer: torch.optim.Optimizer, num_steps: int = 2) -> None:
    for step in range(num_steps):
        torch.manual_seed(step)
        optimizer.zero_grad()
        tokens = torch.randint(0, 13, (4, 5))
        nn.functional.cross_entropy(model(tokens).flatten(0, 1), tokens.flatten()).backward()
        optimizer.step()


def ask(request: m.Request, **context: Any) -> Any:
    with silent():
        return run_probe(request, Context(ModelIndex(), **context))


def gather(value: Any, kind: Any) -> list[Any]:
    """Every rank's value, through the store: object collectives need numpy."""
    store = dist.distributed_c10d._get_default_store()
    NUM_GATHERS[0] += 1
    store.set(f"{NUM_GATHERS[0]}/{dist.get_rank()}", msgspec.json.encode(value))
    return [
        msgspec.json.decode(store.get(f"{NUM_GATHERS[0]}/{rank}"), type=kind) for rank in range(dist.get_world_size())
    ]


def assemble(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    """The whole tensor, put together from the pieces of all ranks; every element must come from somewhere."""
    answer = ask(m.ReadValues(name=name, starts=(0,) * len(shape), stops=shape))
    whole = torch.full(shape, float("nan"), dtype=torch.float64)
    for piece in (piece for pieces in gather(answer.pieces, tuple[Piece, ...]) for piece in pieces):
        where = tuple(slice(at, at + n) for at, n in zip(piece.start, piece.shape, strict=True))
        values = torch.tensor(piece.values, dtype=torch.float64).reshape(piece.shape)
        seen = whole[where]
        assert torch.equal(seen[~seen.isnan()], values[~seen.isnan()]), f"ranks disagree on {name}"
        whole[where] = values
    assert not whole.isnan().any(), f"no rank answers for some of {name}"
    return whole


def compare(name: str, truth: torch.Tensor, *, is_exact: bool = True) -> Tensor:
    """Compare shape and all values with `truth`; returns the description."""
    (described,) = ask(m.DescribeTensors(name=name, with_stats=True)).tensors
    assert described.fqn == name, described.fqn
    assert described.shape == tuple(truth.shape), (name, described.shape, truth.shape)
    whole = assemble(name, tuple(truth.shape))
    assert torch.equal(whole, truth.double()) if is_exact else torch.allclose(whole, truth.double(), atol=1e-6), name
    assert described.stats is not None
    assert described.fingerprint is not None
    assert described.stats.count * truth.element_size() == described.local_bytes
    return described


def tp_fsdp2() -> None:
    for width in (36, 14):  # 14 does not divide: uneven rows on both axes
        mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("dp", "tp"))
        model = build_2d(mesh, width)
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
        train(model, optimizer)
        for fqn, parameter in model.named_parameters():
            assert isinstance(parameter, DTensor)
            described = compare(fqn, parameter.detach().full_tensor())
            assert described.kind == "DTensor"
            assert described.local_shape == tuple(parameter.to_local().shape)
            assert described.has_grad
            compare(f"{fqn}.grad", parameter.grad.full_tensor())
            compare(f"{fqn}.exp_avg", optimizer.state[parameter]["exp_avg"].full_tensor())
        meshes = ask(m.ListMeshes()).meshes
        assert meshes[0].axes == ("dp", "tp")
        assert meshes[0].coordinate == (dist.get_rank() // 2, dist.get_rank() % 2)
        check_unsharded(model)
        check_counts(width)
        del model, optimizer, parameter


def build_2d(mesh: DeviceMesh, width: int) -> nn.Module:
    torch.manual_seed(0)
    model = Net(width)
    plan = {"wq": ColwiseParallel(), "wo": RowwiseParallel()}
    for block in model.layer:
        parallelize_module(block.attention, mesh["tp"], plan)
        fully_shard(block, mesh=mesh["dp"])
    fully_shard(model, mesh=mesh["dp"])
    return model


def check_unsharded(model: nn.Module) -> None:
    """Inside a forward the module holds gathered parameters: the shard is what is reported, with a note."""
    truth = {fqn: parameter.detach().full_tensor() for fqn, parameter in model.named_parameters()}
    notes = []

    def look(module: nn.Module, args: Any, kwargs: Any) -> None:
        name = "layer.0.attention.wq.weight"
        assert module.wq.weight.shape != truth[name].shape or len(module.wq.weight.placements) == 1
        notes.append(compare(name, truth[name]).note)
        (seen,) = ask(
            m.DescribeTensors(name="input", with_stats=True), is_stopped=True, inputs=(args, kwargs), module=module
        ).tensors
        assert seen.shape == tuple(args[0].shape)

    with model.layer[0].attention.register_forward_pre_hook(look, with_kwargs=True):
        model(torch.zeros(2, 3, dtype=torch.int64))
    assert notes == ["unsharded now (all-gathered on dp)"], notes


def check_counts(width: int) -> None:
    modules = {module.fqn: module for module in ask(m.ListModules()).modules}
    assert modules[""].num_params == sum(p.numel() for p in Net(width).parameters())
    local = torch.tensor([modules[""].local_params])
    dist.all_reduce(local)
    # The embedding, head, norms and wo.bias are not on tp: two ranks hold each of their elements.
    split = sum(p.numel() for fqn, p in Net(width).named_parameters() if "wq" in fqn or fqn.endswith("wo.weight"))
    assert local.item() == split + 2 * (modules[""].num_params - split), (local, split)
    assert modules["layer.0"].wrapper == "FSDP2"
    assert modules["layer.0"].class_name == "Block"


def fsdp1(*, use_orig_params: bool, strategy: ShardingStrategy = ShardingStrategy.FULL_SHARD) -> None:
    torch.manual_seed(0)
    model = FullyShardedDataParallel(
        Net(11),
        auto_wrap_policy=ModuleWrapPolicy({Block}),
        use_orig_params=use_orig_params,
        sharding_strategy=strategy,
        device_id=torch.device("cpu"),
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    train(model, optimizer)
    truth, grads = {}, {}
    with FullyShardedDataParallel.summon_full_params(model, with_grads=use_orig_params):
        for fqn, parameter in model.named_parameters():
            fqn = fqn.replace("_fsdp_wrapped_module.", "")
            truth[fqn] = parameter.detach().clone()
            grads[fqn] = parameter.grad.clone() if use_orig_params else None
    assert set(truth) == {fqn for fqn, _ in Net(11).named_parameters()}
    names = ask(m.ListNames()).tensors
    assert set(names) == set(truth), names
    for fqn, value in truth.items():
        described = compare(fqn, value)
        assert described.kind == "Tensor"
        if strategy is ShardingStrategy.FULL_SHARD:
            assert described.note.startswith("FSDP1 flat shard: elements "), described.note
        if grads[fqn] is not None:
            compare(f"{fqn}.grad", grads[fqn])
        assert ask(m.DescribeTensors(name=f"{fqn}.exp_avg")).tensors[0].local_shape == described.local_shape
    check_flat_state()
    check_gathered_flat(model, truth)
    modules = {module.fqn: module for module in ask(m.ListModules()).modules}
    assert modules[""].num_params == sum(p.numel() for p in Net(11).parameters())
    assert modules["layer.1"].wrapper == "FSDP1"


def check_flat_state() -> None:
    """All ranks train on the same batch: the state is that of a plain model."""
    torch.manual_seed(0)
    plain = [Net(11)]  # in a list of one that ModelIndex would find, so it is built after the names were read
    optimizer = torch.optim.AdamW(plain[0].parameters(), lr=0.1)
    train(plain[0], optimizer)
    state = {fqn: optimizer.state[p]["exp_avg"] for fqn, p in plain[0].named_parameters()}
    del plain, optimizer
    for fqn, value in state.items():
        compare(f"{fqn}.exp_avg", value, is_exact=False)


def check_gathered_flat(model: nn.Module, truth: dict[str, torch.Tensor]) -> None:
    def look(module: nn.Module, args: Any) -> None:
        for fqn in ("layer.0.attention.wq.weight", "layer.0.norm.bias", "head.weight"):
            compare(fqn, truth[fqn])

    inner = dict(model.named_modules())["_fsdp_wrapped_module.layer.0._fsdp_wrapped_module.attention"]
    with inner.register_forward_pre_hook(look):
        model(torch.zeros(2, 3, dtype=torch.int64))


def ddp() -> None:
    torch.manual_seed(0)
    model = nn.parallel.DistributedDataParallel(Net(12))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    train(model, optimizer)
    for fqn, parameter in model.module.named_parameters():
        described = compare(fqn, parameter.detach())
        assert (described.kind, described.has_grad, described.placements) == ("Tensor", True, ())
        compare(f"{fqn}.grad", parameter.grad)
        compare(f"{fqn}.momentum_buffer", optimizer.state[parameter]["momentum_buffer"])
    prints = [ask(m.DescribeTensors(name="layer.0", with_stats=True)).tensors]
    everyone = gather([tensor.fingerprint for tensor in prints[0]], list[str])
    assert all(other == everyone[0] for other in everyone), everyone
    assert ask(m.ListModules()).modules[0].wrapper == "DDP"


CASES: dict[str, Callable[[], None]] = {
    "tp_fsdp2": tp_fsdp2,
    "fsdp1_flat": lambda: fsdp1(use_orig_params=False),
    "fsdp1_orig": lambda: fsdp1(use_orig_params=True),
    "fsdp1_whole": lambda: fsdp1(use_orig_params=True, strategy=ShardingStrategy.NO_SHARD),
    "ddp": ddp,
}


def say(text: str) -> None:
    """One write: print's newline comes after another rank's text at times."""
    os.write(1, f"{text}\n".encode())


def main() -> None:
    dist.init_process_group("gloo")
    library = count_collectives()
    dist.all_reduce(torch.ones(1))
    assert NUM_CALLS[0] == 1, "the counter counts"
    for name, case in CASES.items():
        if len(sys.argv) > 1 and name not in sys.argv[1:]:
            continue
        try:
            case()
        except Exception:
            say(f"failed {name} {dist.get_rank()}\n{traceback.format_exc()}")
            sys.exit(1)  # the launcher ends the others
        say(f"ok {name} {dist.get_rank()}")
    library._destroy()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
