from __future__ import annotations

from typing import Any

import pytest
import torch

from distdbg.errors import RefusedError
from distdbg.probes import device
from distdbg.probes.device import copy_to_host, iterate_chunks


@pytest.mark.parametrize("count", [1, 3, 7, 1000])
@pytest.mark.parametrize(
    "tensor",
    [
        torch.arange(30).reshape(5, 6),
        torch.arange(30).reshape(5, 6).t(),
        torch.arange(60).reshape(3, 4, 5).permute(2, 0, 1),
        torch.arange(4).expand(3, 4),
        torch.tensor(7),
        torch.empty(0, 4),
    ],
)
def test_chunks_are_the_tensor_in_order_and_copy_nothing(tensor: torch.Tensor, count: int) -> None:
    chunks = list(iterate_chunks(tensor, count))
    assert [value for chunk in chunks for value in chunk.flatten().tolist()] == tensor.flatten().tolist()
    assert all(chunk.numel() <= count for chunk in chunks)
    storage = tensor.untyped_storage().data_ptr()
    assert all(chunk.untyped_storage().data_ptr() == storage for chunk in chunks)


class BusyEvent:
    def record(self, stream: object) -> None: ...

    def query(self) -> bool:
        return False


class CudaLike:
    """Stands for a CUDA tensor: there is no GPU here, and only the waiting is of interest."""

    device = torch.device("cuda:0")
    shape = (2,)
    dtype = torch.float32


def test_a_busy_gpu_is_a_sentence_and_no_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    from contextlib import nullcontext

    class Host:
        def copy_(self, source: object, non_blocking: bool) -> None:
            assert non_blocking

    clock = iter(range(1000))
    monkeypatch.setattr(torch.cuda, "device", lambda _: nullcontext())
    monkeypatch.setattr(torch.cuda, "stream", lambda _: nullcontext())
    monkeypatch.setattr(torch.cuda, "Stream", object)
    monkeypatch.setattr(torch.cuda, "Event", BusyEvent)
    monkeypatch.setattr(torch, "empty", lambda *_, **__: Host())
    monkeypatch.setattr(device.time, "monotonic", lambda: float(next(clock)))
    monkeypatch.setattr(device.time, "sleep", lambda _: None)
    busy: Any = CudaLike()
    with pytest.raises(RefusedError, match="stream is busy"):
        copy_to_host(busy, live=True)
