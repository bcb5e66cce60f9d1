from __future__ import annotations

import pytest

from distdbg.probes.pattern import match_names, nearest_names, split_name, unknown_name

NAMES = [
    "emb",
    "layer",
    *(f"layer.{n}{part}" for n in range(3) for part in ("", ".attention", ".attention.wq", ".feed_forward")),
    "decoder.attention",
    "module_list.norm",
]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("layer.0.attention", ["layer.0.attention"]),
        ("emb", ["emb"]),
        ("0.attention", ["layer.0.attention"]),
        ("attention", ["layer.0.attention", "layer.1.attention", "layer.2.attention", "decoder.attention"]),
        ("tention", []),
        ("layer.*.attention", ["layer.0.attention", "layer.1.attention", "layer.2.attention"]),
        ("*attention", ["layer.0.attention", "layer.1.attention", "layer.2.attention", "decoder.attention"]),
        ("layer.?.feed_*", ["layer.0.feed_forward", "layer.1.feed_forward", "layer.2.feed_forward"]),
        ("dec*tion", ["decoder.attention"]),
        ("layer/1/attention", ["layer.1.attention"]),
        ("module.layer.1.attention", ["layer.1.attention"]),
        ("_orig_mod.layer.1._fsdp_wrapped_module.attention.wq", ["layer.1.attention.wq"]),
        ("layer.0.attention.", ["layer.0.attention"]),
        ("layer[0]*", []),
    ],
)
def test_match(text: str, expected: list[str]) -> None:
    assert match_names(text, NAMES) == expected


def test_exact_match_hides_longer_names() -> None:
    assert match_names("norm", ["norm", "layer.norm"]) == ["norm"]


def test_split_drops_what_wrappers_add() -> None:
    assert split_name(" _orig_mod.a/b._checkpoint_wrapped_module.c ") == ("a", "b", "c")


def test_nearest_compares_as_many_components_as_were_typed() -> None:
    assert nearest_names("layer.0.atention", NAMES)[0] == "layer.0.attention"
    assert nearest_names("attention.wk", ["model.layer.0.attention.wq"]) == ["model.layer.0.attention.wq"]
    assert nearest_names("zzz", NAMES) == []


def test_unknown_name_says_what_would_be_right() -> None:
    names = [f"layer.{n}.attention" for n in range(3)]
    assert str(unknown_name("module", "layer.0.atention", names[:1])) == (
        "No module matches layer.0.atention. Nearest: layer.0.attention."
    )
    assert str(unknown_name("module", "layer.0.atention", names)).endswith("(modules *attention lists 3).")
    assert str(unknown_name("module", "zzz", names)) == "No module matches zzz. modules lists what there is."
