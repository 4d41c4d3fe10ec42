"""Laws of how networks hear captions: padding, neighbours and hidden captions change nothing that they should not."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

from kuosan.networks import build_network
from kuosan.networks.captions import CaptionEncoder, Reading

END, LENGTH = 20, 12
SPEC: dict[str, Any] = {
    "name": "caption", "end": END, "size": 21, "length": LENGTH, "dim": 16, "depth": 2, "heads": 2,
}  # fmt: skip
KINDS: dict[str, dict[str, Any]] = {
    "transformer": {"kind": "transformer", "patch": 2, "dim": 16, "depth": 2, "heads": 2},
    "u-net": {"kind": "residual-unet", "base": 8, "mults": [1, 2], "blocks": 1, "attention": []},
}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def stirred(network: torch.nn.Module) -> torch.nn.Module:
    """With nothing at zero any more."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator(1)))
    return network.double()


def rows(*captions: list[int], length: int = LENGTH) -> Tensor:
    return torch.tensor([[*ids, *[END] * (length - len(ids))] for ids in captions])


def built(kind: str, sides: tuple[int, ...] = (8, 8)) -> torch.nn.Module:
    spec = {"channels": 2, "sides": list(sides), "conditions": {"class": 3}, "captions": SPEC}
    return stirred(build_network(spec | KINDS[kind], generator()))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sides", [(8,), (8, 8), (4, 4, 4)])
def test_padding_and_neighbours_change_nothing(kind: str, sides: tuple[int, ...]) -> None:
    network = built(kind, sides)
    x = torch.randn(4, 2, *sides, dtype=torch.float64, generator=generator(2))
    label = torch.tensor([3.0, 500.0, 900.0, 40.0]).double()
    words = ([1, 2, 3], [5, 6, 7, 8, 9, 10, 11], [4], [12, 13, 14, 15])
    whole = network(x, label, caption=rows(*words))
    for i, ids in enumerate(words):
        one = slice(i, i + 1)
        for length in (len(ids), len(ids) + 1, LENGTH):
            alone = network(x[one], label[one], caption=rows(ids, length=length))
            assert torch.allclose(alone, whole[one], rtol=0, atol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_a_hidden_caption_is_none_and_order_and_length_are_heard(kind: str) -> None:
    network = built(kind)
    x = torch.randn(1, 2, 8, 8, dtype=torch.float64, generator=generator(2))
    label = torch.tensor([400.0]).double()

    def said(*ids: int) -> Tensor:
        return network(x, label, caption=rows(list(ids)))

    assert torch.equal(said(), network(x, label))
    different = [each.detach() for each in (said(), said(1), said(1, 2), said(2, 1), said(1, 2, 2))]
    for i, a in enumerate(different):
        assert all(float((a - b).abs().max()) > 1e-4 for b in different[:i])


@pytest.mark.parametrize("kind", KINDS)
def test_a_new_network_looks_at_single_words_of_nothing_yet(kind: str) -> None:
    """W of eq. (2) starts at zero: then only the mean, in which order hardly counts, comes through."""
    spec = {"channels": 2, "sides": [8, 8], "captions": SPEC} | KINDS[kind]
    network = build_network(spec, generator())
    reads = [m for m in network.modules() if isinstance(m, Reading)]
    assert reads and not any(m.out.weight.any() or m.out.bias.any() for m in reads)


def test_eq_1_is_the_mean_of_layer_normed_states() -> None:
    encoder = stirred(CaptionEncoder(5, **SPEC, generator=generator()))
    heard = encoder(rows([1, 2, 3], []))
    assert heard.states.shape == (2, 4, 16) and heard.mask[:, 0, 0].tolist() == [
        [True] * 4,
        [True, *[False] * 3],
    ]
    means = torch.stack([heard.states[0].mean(0), heard.states[1, 0]])
    assert torch.allclose(heard.pooled, encoder.pool(means), atol=1e-9)
    centred = heard.states[0].mean(-1), heard.states[0].var(-1, unbiased=False)
    assert torch.allclose(centred[0], torch.zeros(4).double(), atol=1e-6)
    assert torch.allclose(centred[1], torch.ones(4).double(), atol=1e-3)


def test_eq_2_is_attention_to_the_states_that_there_are() -> None:
    with torch.device("meta"):  # as networks build it, without a draw
        read = Reading(8, 2, 16).double()
    read.to_empty(device="cpu").initialise(generator())
    with torch.no_grad():
        read.out.weight.normal_(generator=generator(3))
    encoder = stirred(CaptionEncoder(5, **SPEC, generator=generator()))
    heard = encoder(rows([1, 2, 3], [4]))
    h = torch.randn(2, 6, 8, dtype=torch.float64, generator=generator(4))
    out = read(h, heard)
    for i, count in enumerate((4, 2)):
        states = heard.states[i, :count]
        q = read.q(torch.nn.functional.layer_norm(h[i], (8,), eps=1e-6)).view(6, 2, 4)
        k, v = read.kv(states).view(count, 2, 2, 4).unbind(1)
        weights = torch.einsum("qhd,khd->hqk", q, k).div(4**0.5).softmax(-1)
        expected = read.out(torch.einsum("hqk,khd->qhd", weights, v).reshape(6, 8))
        assert torch.allclose(out[i], expected, atol=1e-9)


def test_copies_share_no_weights_and_building_draws_from_its_generator_alone() -> None:
    a, b = (
        build_network({"channels": 1, "sides": [8, 8], "captions": SPEC} | KINDS["transformer"], generator())
        for _ in "ab"
    )
    assert all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))
    twin = copy.deepcopy(a)
    assert {id(p) for p in twin.parameters()}.isdisjoint({id(p) for p in a.parameters()})
