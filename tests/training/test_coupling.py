"""Couplings: what they may do with noise, and that they do it as well as can be."""

from __future__ import annotations

from itertools import permutations

import pytest
import torch
from torch import Tensor

from kuosan.core.random import Seeds
from kuosan.processes.noises import Laplace, Noise, Normal
from kuosan.training.coupling import COUPLINGS, Independent, Nearest, Transport, cost

SEEDS = Seeds.of(3, 24)


def data(count: int = 24, width: int = 6) -> Tensor:
    return 2 * Seeds.of(1, count).fold("x").normal(torch.empty(count, width, dtype=torch.float64))


@pytest.mark.parametrize("noise", [Normal(), Laplace()], ids=str)
@pytest.mark.parametrize("name", COUPLINGS)
def test_no_coupling_is_longer_than_the_independent_one(name: str, noise: Noise) -> None:
    x = data()
    plain = Independent().draw(x, noise, SEEDS, {})
    assert torch.equal(plain, noise.draw(x, SEEDS))
    assert cost(x, COUPLINGS[name].draw(x, noise, SEEDS, {})) <= cost(x, plain)


def test_the_nearest_of_one_is_independent_and_of_k_the_least_of_k() -> None:
    x, noise = data(), Normal()
    assert torch.equal(Nearest(1).draw(x, noise, SEEDS, {}), Independent().draw(x, noise, SEEDS, {}))
    got = [(x - Nearest(k).draw(x, noise, SEEDS, {})).square().sum(1) for k in (1, 2, 4, 8)]
    for more, fewer in zip(got[1:], got, strict=False):
        assert bool((more <= fewer).all())
    draws = [noise.draw(x, SEEDS), *(noise.draw(x, SEEDS.fold("candidate", j)) for j in range(1, 4))]
    assert torch.equal(got[2], torch.stack([(x - eps).square().sum(1) for eps in draws]).min(0).values)


def test_an_examples_nearest_noise_does_not_depend_on_its_neighbours() -> None:
    x = data()
    whole = Nearest().draw(x, Normal(), SEEDS, {})
    assert torch.equal(Nearest().draw(x[5:9], Normal(), SEEDS[5:9], {}), whole[5:9])


def test_transport_deals_out_the_same_draws_at_the_least_cost() -> None:
    x, seeds = data(6), Seeds.of(3, 6)
    plain, dealt = (c.draw(x, Normal(), seeds, {}) for c in (Independent(), Transport()))
    assert sorted(dealt.tolist()) == sorted(plain.tolist())
    least = min(cost(x, plain[list(order)]) for order in permutations(range(6)))
    assert cost(x, dealt) == pytest.approx(least, abs=1e-12) and least < cost(x, plain)


def test_on_a_line_transport_keeps_the_order() -> None:
    x = data(width=1)
    dealt = Transport().draw(x, Normal(), SEEDS, {})
    assert torch.equal(x[:, 0].argsort(), dealt[:, 0].argsort())


def test_transport_never_mixes_conditions() -> None:
    """What a condition goes with stays the draws of its own examples, normal as samplers take them to be."""
    x, cond = data(), {"class": torch.arange(24) % 3, "size": torch.arange(24) % 2}
    plain, dealt = (c.draw(x, Normal(), SEEDS, cond) for c in (Independent(), Transport()))
    for k in range(6):
        mine = torch.arange(24) % 6 == k
        assert sorted(dealt[mine].tolist()) == sorted(plain[mine].tolist())
        assert cost(x[mine], dealt[mine]) < cost(x[mine], plain[mine])
    alone = {"name": torch.arange(24)}
    assert torch.equal(Transport().draw(x, Normal(), SEEDS, alone), plain)
