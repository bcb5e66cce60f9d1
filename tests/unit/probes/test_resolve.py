from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from distdbg.errors import AmbiguousName, EvaluationError, NotStoppedError, UnknownName, UsageError
from distdbg.probes.context import Context
from distdbg.probes.model import ModelIndex
from distdbg.probes.resolve import resolve, resolve_one


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.wq = nn.Linear(2, 2, bias=False)
        self.register_buffer("scale", torch.ones(1))

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        return self.wq(x)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.emb = nn.Embedding(3, 2)
        self.layer = nn.ModuleList(nn.ModuleDict({"attention": Attention()}) for _ in range(2))


class Output:
    def __init__(self) -> None:
        self.logits = torch.ones(7)


WQ = ["layer.0.attention.wq.weight", "layer.1.attention.wq.weight"]


@pytest.fixture
def net() -> Net:
    return Net()


@pytest.fixture
def context(net: Net) -> Context:
    return Context(ModelIndex([net]))


def stopped(net: Net, names: dict[str, Any], **scene: Any) -> Context:
    def evaluate(text: str) -> object:
        try:
            return eval(text, {"torch": torch}, names)
        except Exception as error:
            raise EvaluationError(f"{type(error).__name__}: {error}") from error

    return Context(ModelIndex([net]), is_stopped=True, frame_locals=names, evaluate=evaluate, **scene)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("layer.0.attention.wq.weight", WQ[:1]),
        ("layer/0/attention/wq/weight", WQ[:1]),
        ("wq.weight", WQ),
        ("layer.*.attention.wq.weight", WQ),
        ("0.attention", ["layer.0.attention.scale", WQ[0]]),
        ("layer.1", ["layer.1.attention.scale", WQ[1]]),
        ("*.scale", ["layer.0.attention.scale", "layer.1.attention.scale"]),
        ("Net", ["emb.weight", "layer.0.attention.scale", WQ[0], "layer.1.attention.scale", WQ[1]]),
    ],
)
def test_names(context: Context, text: str, expected: list[str]) -> None:
    assert [held.fqn for held in resolve(text, context)] == expected


def test_a_root_among_several_has_all_its_tensors(net: Net) -> None:
    other = nn.ModuleDict({"emb": nn.Embedding(3, 2), "score": nn.Linear(1, 1, bias=False)})
    context = Context(ModelIndex([net, other]))
    assert [held.fqn for held in resolve("ModuleDict", context)] == ["ModuleDict.emb.weight", "score.weight"]


def test_unknown_and_ambiguous(context: Context) -> None:
    with pytest.raises(UnknownName, match=r"Nearest: layer\.0\.attention\.wq\.weight"):
        resolve("layer.0.atention.wq.weight", context)
    with pytest.raises(AmbiguousName, match="2 tensors"):
        resolve_one("wq.weight", context)
    with pytest.raises(NotStoppedError, match="expression"):
        resolve("wq.weight + 1", context)


def test_gradient_and_optimizer_state(net: Net, context: Context) -> None:
    weight = net.emb.weight
    with pytest.raises(UnknownName, match=r"emb\.weight has no gradient"):
        resolve("emb.weight.grad", context)
    optimizer = torch.optim.AdamW(net.parameters())
    context.model.add_optimizer(optimizer)
    with pytest.raises(UnknownName, match="No optimizer has state"):
        resolve("emb.weight.optim", context)
    weight.grad = torch.ones_like(weight)
    optimizer.step()
    (gradient,) = resolve("emb.weight.grad", context)
    assert (gradient.fqn, gradient.role, gradient.tensor is weight.grad) == ("emb.weight.grad", "gradient", True)
    (state,) = resolve("emb.weight.exp_avg", context)
    assert state.tensor is optimizer.state[weight]["exp_avg"]
    assert [held.fqn.rsplit(".", 1)[1] for held in resolve("emb.weight.optim", context)] == [
        "step", "exp_avg", "exp_avg_sq",
    ]  # fmt: skip


def test_inputs_and_outputs_of_a_stop(net: Net) -> None:
    x, mask, logits = torch.ones(1), torch.ones(2), Output()
    module = net.layer[0]["attention"]
    at = stopped(net, {}, inputs=((x, [mask]), {"extra": {"a": mask}}), output=logits, module=module)
    assert [held.fqn for held in resolve("input", at)] == ["input[0]", "input[1][0]", "input['extra']['a']"]
    for text in ("input[0]", "input.x", "input['x']"):
        (found,) = resolve(text, at)
        assert found.tensor is x, text
        assert (found.fqn, found.role) == (text, "input")
    assert resolve("input.mask[0]", at)[0].tensor is mask
    assert resolve("input.extra['a']", at)[0].tensor is mask
    assert resolve("output.logits", at)[0].tensor is logits.logits
    with pytest.raises(UnknownName, match=r"input\[9\]: no 9 there"):
        resolve("input[9]", at)
    with pytest.raises(UnknownName, match="no grad_output at this stop: break MODULE backward"):
        resolve("grad_output", at)
    with pytest.raises(NotStoppedError, match="break MODULE"):
        resolve("input", Context(ModelIndex([net])))


def test_locals_come_before_suffixes_and_after_exact_names(net: Net) -> None:
    local = torch.zeros(1)
    at = stopped(net, {"weight": local, "emb": local, "scale": 3})
    assert resolve("weight", at)[0].tensor is local
    assert resolve("emb.weight", at)[0].tensor is net.emb.weight
    assert [held.role for held in resolve("scale", at)] == ["buffer", "buffer"]


def test_expressions_of_the_frame(net: Net) -> None:
    at = stopped(net, {"x": torch.ones(3), "pair": (torch.ones(1), torch.ones(2)), "n": 3})
    assert resolve("x * 2", at)[0].tensor.tolist() == [2, 2, 2]
    assert [held.fqn for held in resolve("pair", at)] == ["pair[0]", "pair[1]"]
    with pytest.raises(UsageError, match="n is int, not a tensor"):
        resolve("n", at)
    with pytest.raises(UnknownName, match="No tensor, module or local matches zzz"):
        resolve("zzz", at)
    with pytest.raises(EvaluationError, match="ZeroDivisionError"):
        resolve("x / (1 // 0)", at)
