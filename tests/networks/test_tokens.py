"""Transformers over tokens: who sees whom, and what is asked for is what comes back."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from kuosan.networks import build_network
from kuosan.networks.tokens import TokenTransformer, rotate, rotations

SIZE, LENGTH = 7, 12


def network(**leaves: object) -> TokenTransformer:
    spec = {"kind": "tokens", "size": SIZE, "length": LENGTH, "dim": 32, "depth": 2, "heads": 2, **leaves}
    net = build_network(spec, torch.Generator().manual_seed(0))
    assert isinstance(net, TokenTransformer)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():  # away from the initial values, at which modulations are zero
        for p in net.parameters():
            p.add_(0.1 * torch.randn(p.shape, generator=generator))
    return net.double().eval()


def texts(n: int = 3, seed: int = 2) -> Tensor:
    return torch.randint(SIZE, (n, LENGTH), generator=torch.Generator().manual_seed(seed))


T = torch.tensor([0.2, 0.5, 0.9], dtype=torch.float64)


def test_rotated_products_depend_on_the_distance_alone() -> None:
    cos, sin = (c.double() for c in rotations(20, 8, torch.device("cpu")))
    q, k = torch.randn(2, 1, 1, 1, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    everywhere = rotate(q.expand(1, 1, 20, 8), cos, sin) @ rotate(k.expand(1, 1, 20, 8), cos, sin).transpose(
        -1, -2
    )
    for distance in (-5, 0, 3):
        line = torch.diagonal(everywhere[0, 0], distance)
        torch.testing.assert_close(line, line[:1].expand_as(line), rtol=1e-5, atol=1e-6)
    assert everywhere[0, 0, 0, 0] != everywhere[0, 0, 0, 3]
    torch.testing.assert_close(everywhere[0, 0, 4, 4], (q * k).sum(), rtol=1e-5, atol=1e-6)


def test_a_masked_network_sees_both_sides() -> None:
    net, x = network(), texts()
    changed = x.clone()
    changed[:, 6] = (x[:, 6] + 1) % SIZE
    moved = (net(x, T) - net(changed, T)).abs().amax((0, 2))
    assert bool((moved > 0).all())


def test_an_autoregressive_network_sees_what_is_before_and_nothing_else() -> None:
    net, x = network(block=1), texts()
    for place in range(LENGTH):
        changed = x.clone()
        changed[:, place] = (x[:, place] + 1) % SIZE
        moved = (net(x, T) - net(changed, T)).abs().amax((0, 2))
        assert bool((moved[: place + 1] == 0).all())
        assert bool((moved[place + 1 :] > 0).all())


@pytest.mark.parametrize("block", [2, 4, 5])
def test_blocks_see_earlier_blocks_and_themselves(block: int) -> None:
    net, x = network(block=block), texts()
    changed = x.clone()
    changed[:, 5] = (x[:, 5] + 1) % SIZE
    moved = (net(x, T) - net(changed, T)).abs().amax((0, 2))
    first = 5 // block * block
    assert bool((moved[:first] == 0).all()) and bool((moved[first:] > 0).all())


@pytest.mark.parametrize("block", [2, 4, 5, 12])
def test_one_pass_over_both_copies_is_every_block_after_clean_ones(block: int) -> None:
    net, x = network(block=block, conditions={"class": 3}), texts()
    hidden = torch.rand(x.shape, generator=torch.Generator().manual_seed(3)) < 0.5
    noisy = torch.where(hidden, SIZE, x)
    cond = {"class": torch.tensor([0, 1, 3])}
    both = net(noisy, T, x, **cond)
    for first in range(0, LENGTH, block):
        here = torch.cat([x[:, :first], noisy[:, first:]], 1)  # what later blocks are does not matter
        alone = net(here, T, **cond)
        torch.testing.assert_close(both[:, first : first + block], alone[:, first : first + block])


@pytest.mark.parametrize("leaves", [{}, {"block": 1}, {"block": 4}, {"timed": True, "conditions": {"a": 2}}])
def test_the_positions_that_are_asked_for_are_those_of_the_whole(leaves: dict[str, object]) -> None:
    net, x = network(**leaves), texts()
    only = torch.rand(x.shape, generator=torch.Generator().manual_seed(4)) < 0.4
    clean = x if net.block > 1 else None
    torch.testing.assert_close(net(x, T, clean, only), net(x, T, clean)[only])


def test_time_and_conditions_are_heard_where_they_are_inputs() -> None:
    x, other = texts(), T.flip(0)
    assert torch.equal(network()(x, T), network()(x, other))
    timed = network(timed=True)
    assert not torch.equal(timed(x, T)[0], timed(x, other)[0])
    steered = network(conditions={"class": 3})
    null = torch.full((3,), 3)
    assert torch.equal(steered(x, T), steered(x, T, **{"class": null}))
    assert not torch.equal(steered(x, T), steered(x, T, **{"class": null - 1}))
    with pytest.raises(ValueError, match="unknown condition"):
        steered(x, T, colour=null)


def test_places_tell_positions_apart_and_longer_windows_can_be_read() -> None:
    same = torch.zeros(1, LENGTH, dtype=torch.int64)
    t = T[:1]
    plain = network()(same, t)
    torch.testing.assert_close(
        plain, plain[:, :1].expand_as(plain), rtol=1e-6, atol=1e-8
    )  # a text of one letter
    placed = network(places=LENGTH)(same, t)
    assert bool(((placed[:, 1:] - placed[:, :-1]).abs().amax(2) > 1e-3).all())
    assert network(places=LENGTH)(torch.zeros(1, 2 * LENGTH, dtype=torch.int64), t).shape == (
        1,
        2 * LENGTH,
        SIZE,
    )


def test_a_row_does_not_depend_on_its_neighbours() -> None:
    net, x = network(conditions={"class": 3}), texts()
    cond = {"class": torch.tensor([0, 1, 2])}
    alone = torch.cat(
        [net(x[i : i + 1], T[i : i + 1], **{"class": cond["class"][i : i + 1]}) for i in range(3)]
    )
    torch.testing.assert_close(net(x, T, **cond), alone)


def test_dropout_is_a_function_of_the_times() -> None:
    net, x = network(dropout=0.5).train(), texts()
    first, again, other = net(x, T), net(x, T), net(x, T * 0.9)
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_a_network_that_begins_with_frequencies_says_them_and_little_else() -> None:
    spec = {"kind": "tokens", "size": SIZE, "length": LENGTH, "dim": 32, "depth": 2, "heads": 2}
    net = build_network(spec, torch.Generator().manual_seed(0))
    counts = torch.tensor([50.0, 20, 10, 10, 9, 1, 0])
    net.begin_with(counts)  # type: ignore[operator]
    said = net(torch.full((1, LENGTH), SIZE), T[:1].float()).softmax(-1)[0, 0].detach()
    torch.testing.assert_close(said, counts / 100, rtol=0.7, atol=0.02)
    assert said[0] > 0.35 and said[6] < 0.001


def test_a_width_that_cannot_be_rotated_is_refused() -> None:
    with pytest.raises(ValueError, match="twice the heads"):
        TokenTransformer(SIZE, dim=6, depth=1, heads=2, generator=torch.Generator())
