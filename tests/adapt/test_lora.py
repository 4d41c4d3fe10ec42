"""Adapters: what they leave alone, what they add up to, and that `peft` itself reads what is written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from kuosan.adapt import lora
from kuosan.core.random import Seeds
from kuosan.core.shapes import as_time
from kuosan.errors import UserError
from kuosan.networks import build_network
from kuosan.networks.widen import whole, widened

peft = pytest.importorskip("peft", reason="the extra 'adapters' is not installed")

PICTURES = {"channels": 1, "sides": [8, 8]}
SPECS: dict[str, dict[str, Any]] = {
    "transformer": {"kind": "transformer", **PICTURES, "patch": 4, "dim": 16, "depth": 1, "heads": 1},
    "unet": {"kind": "unet", **PICTURES, "base": 8, "mults": [1, 2], "blocks": 1, "attention": [1]},
    "tokens": {"kind": "tokens", "size": 7, "dim": 16, "depth": 1, "heads": 1},
    "timed tokens": {"kind": "tokens", "size": 7, "dim": 16, "depth": 1, "heads": 1, "timed": True},
}
OLD = {"class": ["a", "b"]}
NEW = {"class": ["z", "b", "a"], "hue": ["red", "blue"]}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def spec_of(name: str, columns: dict[str, list[str]]) -> dict[str, Any]:
    timed = {} if SPECS[name]["kind"] != "tokens" else {"timed": SPECS[name].get("timed", False)}
    return {**SPECS[name], **timed, "conditions": {k: len(v) for k, v in columns.items()}}


def network_of(name: str, columns: dict[str, list[str]], seed: int = 0) -> nn.Module:
    """A network in which nothing is zero, as if it had learned something."""
    network = build_network(spec_of(name, columns), generator())
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(0, 0.2, generator=generator(seed + parameter.numel()))
    return network.eval()


def said(network: nn.Module, name: str, **cond: int) -> Tensor:
    """What a network says of a batch of two."""
    rows = {k: torch.tensor([v, v]) for k, v in cond.items()}
    with torch.no_grad():
        if SPECS[name]["kind"] == "tokens":
            x = (7 * Seeds.of(3, 2).uniform(torch.empty(2, 5))).long()
            return network(x, as_time(0.4, 2).float(), **rows)  # type: ignore[no-any-return]
        return network(Seeds.of(3, 2).normal(torch.empty(2, 1, 8, 8)), torch.tensor([30.0, 700.0]), **rows)  # type: ignore[no-any-return]


def stirred(
    network: nn.Module, name: str, columns: dict[str, list[str]], targets: str = "all", seed: int = 5
) -> nn.Module:
    """The network with adapters that have learned something; it is used up."""
    spec = spec_of(name, columns)
    adapted = lora.attached(
        network,
        lora.layers(network, targets),
        rank=3,
        alpha=6.0,
        whole=whole(spec, columns),
        generator=generator(),
    ).eval()
    with torch.no_grad():
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.empty_like(parameter).normal_(0, 0.1, generator=generator(seed)))
    return adapted


@pytest.mark.parametrize("name", SPECS)
def test_an_adapted_network_starts_as_the_network(name: str) -> None:
    network = network_of(name, OLD)
    before = said(network, name, **{"class": 1})
    kept = {k: v.clone() for k, v in network.state_dict().items()}
    names = lora.layers(network, "all")
    spec = spec_of(name, OLD)
    adapted = lora.attached(
        network, names, rank=2, alpha=2, whole=whole(spec, OLD), generator=generator()
    ).eval()
    assert torch.equal(said(adapted, name, **{"class": 1}), before)
    trained = [k for k, p in adapted.named_parameters() if p.requires_grad]
    assert trained and all(".lora_" in k or ".modules_to_save." in k for k in trained)
    stirred_state = stirred(network_of(name, OLD), name, OLD).state_dict()
    for k, v in kept.items():  # and nothing that training does can change the old weights
        found = [
            u
            for n, u in stirred_state.items()
            if n.replace(".base_layer", "").replace(".original_module", "").endswith(f"model.{k}")
        ]
        assert any(torch.equal(u, v) for u in found), k


@pytest.mark.parametrize("name", SPECS)
def test_a_merged_network_says_what_the_adapted_one_says(name: str) -> None:
    adapted = stirred(network_of(name, OLD), name, OLD)
    expected = said(adapted, name, **{"class": 0})
    plain = network_of(name, OLD)
    assert (said(plain, name, **{"class": 0}) - expected).abs().max() > 1e-3
    plain.load_state_dict(lora.merged(adapted).state_dict())
    assert torch.allclose(said(plain, name, **{"class": 0}), expected, atol=1e-5)


@pytest.mark.foreign_rng("peft draws the weights that it then replaces by those of the file")
@pytest.mark.parametrize("name", SPECS)
def test_the_change_is_a_product_of_the_rank_and_what_peft_reads(name: str, tmp_path: Path) -> None:
    adapted = stirred(network_of(name, OLD), name, OLD)
    expected = said(adapted, name, **{"class": 1})
    lora.save(adapted, tmp_path, "somewhere")
    assert sorted(p.name for p in tmp_path.iterdir()) == [lora.CONFIG, lora.WEIGHTS]
    read = peft.PeftModel.from_pretrained(network_of(name, OLD), str(tmp_path)).eval()
    assert read.peft_config["default"].base_model_name_or_path == "somewhere"
    assert torch.allclose(said(read, name, **{"class": 1}), expected, atol=1e-6)
    network = network_of(name, OLD)
    change = lora.change(network, tmp_path)
    layers = {f"{k}.weight" for k in lora.layers(network, "all")}
    for k, v in change.items():
        if k in layers:
            assert 1 <= torch.linalg.matrix_rank(v.flatten(1), atol=1e-4) <= 3, k
        elif v.numel() and ("table" in k or "class_embedding" in k):
            assert v.abs().max() > 0
        else:
            assert not v.any(), k


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("old", [OLD, {}], ids=["classes", "none"])
def test_a_widened_network_says_the_same(name: str, old: dict[str, list[str]]) -> None:
    narrow = network_of(name, old)
    wide = build_network(spec_of(name, NEW), generator()).eval()
    weights = {f"network.{k}": v for k, v in narrow.state_dict().items()}
    found = widened(weights, spec_of(name, old), old, NEW)
    wide.load_state_dict({k.removeprefix("network."): v for k, v in found.items()})
    hidden = {"class": 3, "hue": 2}
    assert torch.equal(said(wide, name, **hidden), said(narrow, name))
    new = said(wide, name, **hidden | {"class": 0, "hue": 1})
    assert torch.equal(new, said(narrow, name)), "a new value is an unknown one"
    if old:
        assert torch.equal(said(wide, name, **hidden | {"class": 2}), said(narrow, name, **{"class": 0}))
        assert torch.equal(said(wide, name, **hidden | {"class": 1}), said(narrow, name, **{"class": 1}))


def test_layers_are_named_by_group_or_by_their_last_names() -> None:
    network = network_of("transformer", OLD)
    assert lora.layers(network, "attention") == ["blocks.0.qkv", "blocks.0.proj"]
    assert lora.layers(network, "blocks") == [f"blocks.0.{k}" for k in ("qkv", "proj", "fc1", "fc2")]
    assert lora.layers(network, "fc2, out") == ["out", "blocks.0.fc2"]
    assert len(lora.layers(network, "all")) == 9
    with pytest.raises(UserError, match="attention, blocks, all, or some of"):
        lora.layers(network, "nothing")


def test_what_is_no_adapter_or_not_for_this_network_says_so(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is no adapter"):
        lora.change(network_of("transformer", OLD), tmp_path)
    lora.save(stirred(network_of("transformer", OLD), "transformer", OLD), tmp_path, "")
    with pytest.raises(UserError, match="does not fit"):
        lora.change(network_of("unet", OLD), tmp_path)
    with pytest.raises(UserError, match="does not fit"):
        lora.change(network_of("transformer", NEW), tmp_path)
    (tmp_path / lora.WEIGHTS).write_bytes(b"nothing")
    with pytest.raises(UserError, match="does not fit"):
        lora.change(network_of("transformer", OLD), tmp_path)
