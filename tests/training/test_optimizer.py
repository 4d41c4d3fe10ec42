"""Muon: what it does to matrices, and that everything else is AdamW's."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from kuosan.networks import build_network
from kuosan.training.optimizer import Optimizers, matrices
from kuosan.training.state import pack, unpack

SPEC = {"kind": "tokens", "size": 5, "length": 8, "dim": 32, "depth": 2, "heads": 2}


def network() -> nn.Module:
    return build_network(SPEC, torch.Generator().manual_seed(0))


def optimizers(model: nn.Module, kind: str = "muon") -> Optimizers:
    return Optimizers(model, kind, lr=1e-2, betas=(0.9, 0.99), weight_decay=0.0)  # type: ignore[arg-type]


def gradients(model: nn.Module, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for p in model.parameters():
        p.grad = torch.randn(p.shape, generator=generator)


def test_matrices_of_blocks_and_nothing_else() -> None:
    model = network()
    found = {id(p) for p in matrices(model)}
    inside = {name for name, p in model.named_parameters() if id(p) in found}
    kinds = ("qkv", "proj", "fc1", "fc2")
    assert inside == {f"blocks.{k}.{kind}.weight" for k in range(2) for kind in kinds}


def test_muon_moves_a_matrix_alike_in_all_directions_and_the_rest_as_adamw() -> None:
    model, other = network(), network()
    before = copy.deepcopy(model.state_dict())
    for each, kind in ((model, "muon"), (other, "adamw")):
        gradients(each, 1)
        # One direction far stronger than the others.
        weight = each.get_parameter("blocks.0.qkv.weight")
        assert weight.grad is not None
        weight.grad += 10 * torch.outer(torch.ones(96), torch.ones(32))
        optimizers(each, kind).step(1e-2)
    moved = {name: p - before[name] for name, p in model.state_dict().items()}
    plain = {name: p - before[name] for name, p in other.state_dict().items()}
    values = torch.linalg.svdvals(moved["blocks.0.qkv.weight"])
    assert float(values.max() / values.min()) < 4
    ordinary = torch.linalg.svdvals(plain["blocks.0.qkv.weight"])
    assert float(ordinary.max() / ordinary.min()) > 10
    inside = {id(p) for p in matrices(model)}
    for name, p in model.named_parameters():
        if id(p) not in inside:
            assert torch.equal(moved[name], plain[name]), name
    # The same size as AdamW's step, whose elements are about the rate each.
    assert float(moved["blocks.0.qkv.weight"].square().mean().sqrt()) == pytest.approx(2e-3, rel=0.3)


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_a_state_that_was_packed_goes_on_to_the_same_bits(kind: str) -> None:
    model = network()
    mine = optimizers(model, kind)
    for seed in range(3):
        gradients(model, seed)
        mine.step(1e-2)
    tensors = {k: v.clone() for k, v in pack(model, model, mine).items()}
    twin = network()
    theirs = optimizers(twin, kind)
    unpack(tensors, twin, twin, theirs)
    for each, part in ((model, mine), (twin, theirs)):
        gradients(each, 9)
        part.step(5e-3)
    for a, b in zip(model.parameters(), twin.parameters(), strict=True):
        assert torch.equal(a, b)
