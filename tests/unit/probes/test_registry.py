from __future__ import annotations

import gc
import weakref

import pytest
import torch
from torch import nn

from distdbg.errors import DistdbgError, NotStoppedError
from distdbg.probes import PROBES, Context, ModelIndex, run_probe
from distdbg.schema import message as m


def test_every_request_about_looking_has_a_probe() -> None:
    assert {request: probe.needs for request, probe in PROBES.items()} == {
        m.DescribeTensors: "value",
        m.ReadValues: "value",
        m.ReadLocals: "value",
        m.ListModules: "metadata",
        m.ListMeshes: "metadata",
        m.ListNames: "metadata",
    }


def test_nothing_but_our_own_errors_comes_out() -> None:
    class Broken(ModelIndex):
        def entries(self):  # type: ignore[no-untyped-def]
            raise RuntimeError("dictionary changed size during iteration")

    with pytest.raises(DistdbgError, match="list_modules failed in this rank: RuntimeError: dictionary changed"):
        run_probe(m.ListModules(), Context(Broken()))
    with pytest.raises(DistdbgError, match="no probe for Ping"):
        run_probe(m.Ping(), Context(ModelIndex()))


def test_locals_need_a_stop() -> None:
    with pytest.raises(NotStoppedError):
        run_probe(m.ReadLocals(), Context(ModelIndex()))
    at = Context(ModelIndex(), frame_locals={"x": torch.ones(2), "n": 3})
    assert run_probe(m.ReadLocals(), at) == m.Locals((("x", "f32[2]"), ("n", "3")))


@pytest.mark.parametrize("live", [False, True])
def test_live_is_marked_only_where_elements_were_read(live: bool) -> None:
    layer = nn.Linear(1, 1, bias=False)
    context = Context(ModelIndex([layer]), live=live)
    (read,) = run_probe(m.DescribeTensors(name="weight", with_stats=True), context).tensors  # type: ignore[attr-defined]
    (described,) = run_probe(m.DescribeTensors(name="weight"), context).tensors  # type: ignore[attr-defined]
    values = run_probe(m.ReadValues(name="weight", starts=(0, 0), stops=(1, 1)), context)
    assert (read.live, described.live, values.live) == (live, False, live)  # type: ignore[attr-defined]


def test_an_answer_keeps_nothing_alive() -> None:
    layer = nn.Linear(8, 8)
    layer.weight.grad = torch.ones(8, 8)
    index = ModelIndex([layer])
    context = Context(index)
    for request in (m.ListModules(), m.ListNames(), m.DescribeTensors(name="weight", with_stats=True)):
        run_probe(request, context)
    run_probe(m.DescribeTensors(name="weight.grad"), context)
    watched = [weakref.ref(layer), weakref.ref(layer.weight), weakref.ref(layer.weight.grad)]
    gc.disable()
    try:
        del layer
        assert [ref() for ref in watched] == [None, None, None]
    finally:
        gc.enable()
