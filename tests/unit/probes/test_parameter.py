from __future__ import annotations

import torch
from torch import nn

from distdbg.probes import ModelIndex
from distdbg.probes.parameter import gradient_of, list_tensors, optimizer_state_of


def layer_of_keras(*paths: str) -> nn.Module:
    """As Keras' torch backend does it: variables in a ParameterDict, keyed by their full path."""
    layer = type("Dense", (nn.Module,), {"__module__": "keras.src.layers.core.dense"})()
    layer._torch_params = nn.ParameterDict([(path, nn.Parameter(torch.ones(2))) for path in paths])
    return layer


def names_of(model: nn.Module) -> list[str]:
    return [held.fqn for _, tensors in list_tensors(ModelIndex([model])) for held in tensors]


def test_keras_paths_are_the_names() -> None:
    model = layer_of_keras("net/scale")
    model.fc = layer_of_keras("net/fc/kernel", "net/fc/bias")
    assert names_of(model) == ["net.scale", "net.fc.kernel", "net.fc.bias"]
    assert [fqn for fqn, _ in ModelIndex([model]).modules()] == ["", "fc"]


def test_a_parameter_dict_of_anybody_else_is_a_module() -> None:
    model = nn.Module()
    model.table = nn.ParameterDict({"a": nn.Parameter(torch.ones(1))})
    assert names_of(model) == ["table.a"]


def test_gradients_and_state_of_plain_parameters() -> None:
    layer = nn.Linear(2, 2, bias=False)
    optimizer = torch.optim.SGD(layer.parameters(), momentum=0.9)
    (held,) = list_tensors(ModelIndex([layer]))[0][1]
    assert gradient_of(held) is None
    assert optimizer_state_of(held, [optimizer]) == []
    layer(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    gradient = gradient_of(held)
    assert gradient is not None
    assert gradient.tensor is layer.weight.grad
    assert [state.fqn for state in optimizer_state_of(held, [optimizer])] == ["weight.momentum_buffer"]
