"""A watch tells when a value differs from its last look."""

from __future__ import annotations

import pytest
import torch

from distdbg.agent.watch import Watches
from distdbg.errors import UnknownName
from distdbg.probes.fingerprint import fingerprint


@pytest.fixture
def watches() -> Watches:
    return Watches(fingerprint)


def test_the_first_look_only_remembers(watches: Watches) -> None:
    assert watches.has_changed(1, "x", lambda _: 1) is None
    assert watches.has_changed(1, "x", lambda _: 1) is None
    assert watches.has_changed(1, "x", lambda _: 2) == ("1", "2")
    assert watches.has_changed(1, "x", lambda _: 2) is None


def test_a_single_bit_of_a_tensor_is_seen(watches: Watches) -> None:
    tensor = torch.zeros(1000)
    watches.has_changed(1, "w", lambda _: tensor)
    tensor[500] = -0.0
    old, new = watches.has_changed(1, "w", lambda _: tensor) or ("", "")
    assert old.startswith("(1000,) ") and new.startswith("(1000,) ") and old != new


def test_the_same_bytes_in_another_shape_have_changed(watches: Watches) -> None:
    watches.has_changed(1, "w", lambda _: torch.zeros(4))
    assert watches.has_changed(1, "w", lambda _: torch.zeros(2, 2)) is not None


def test_a_name_that_is_not_known_here_is_no_change(watches: Watches) -> None:
    def unknown(text: str) -> object:
        raise UnknownName(text)

    watches.has_changed(1, "x", lambda _: 1)
    assert watches.has_changed(1, "x", unknown) is None
    assert watches.has_changed(1, "x", lambda _: 1) is None
    assert watches.has_changed(1, "x", lambda _: 2) == ("1", "2")


def test_watches_do_not_mix_and_are_forgotten(watches: Watches) -> None:
    watches.has_changed(1, "x", lambda _: 1)
    assert watches.has_changed(2, "x", lambda _: 2) is None
    watches.forget(1)
    watches.forget(1)
    assert watches.has_changed(1, "x", lambda _: 5) is None


def test_it_keeps_no_value(watches: Watches) -> None:
    import gc
    import weakref

    made: list[weakref.ref[torch.Tensor]] = []

    def make(_text: str) -> torch.Tensor:
        tensor = torch.zeros(3)
        made.append(weakref.ref(tensor))
        return tensor

    watches.has_changed(1, "x", make)
    gc.collect()
    assert made[0]() is None
