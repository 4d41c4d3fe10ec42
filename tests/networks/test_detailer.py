"""The convolutions behind a transformer's patches: what they see, what they begin as, what they make possible."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from kuosan.core.random import Seeds
from kuosan.networks import Transformer
from kuosan.networks.detailer import Detailer

LABEL = torch.tensor([3.0, 500.0])


def network(sides: tuple[int, ...], detail: int, stir: float = 0.0, **leaves: Any) -> Transformer:
    """Of two channels, with weights where fresh ones are zeros if ``stir``."""
    generator = torch.Generator().manual_seed(3)
    spec: dict[str, Any] = {"patch": 4, "dim": 24, "depth": 2, "heads": 2} | leaves
    net = Transformer(2, sides, detail=detail, generator=generator, **spec)
    with torch.no_grad():
        for p in net.parameters():
            p.add_(stir * torch.randn(p.shape, generator=generator))
    return net.eval()


def states(*sides: int, n: int = 2, channels: int = 2) -> torch.Tensor:
    return Seeds.of(7, n).normal(torch.empty(n, channels, *sides))


@pytest.mark.parametrize("sides", [(12,), (8, 12), (4, 8, 6)], ids=str)
def test_it_begins_as_the_network_without(sides: tuple[int, ...]) -> None:
    plain, detailed = network(sides, 0, stir=0.1), network(sides, 6)
    missing = detailed.load_state_dict(plain.state_dict(), strict=False)
    assert not missing.unexpected_keys
    assert {name.split(".")[0] for name in missing.missing_keys} == {"detailer"}
    x = states(*sides)
    assert torch.equal(detailed(x, LABEL), plain(x, LABEL))


def test_weights_of_the_network_are_drawn_as_without() -> None:
    plain, detailed = network((8, 8), 0), network((8, 8), 6)
    assert all(torch.equal(value, detailed.state_dict()[name]) for name, value in plain.state_dict().items())


@pytest.mark.parametrize("sides", [(13,), (9, 13), (7, 8, 9)], ids=str)
def test_it_sees_two_places_far_along_every_side_and_no_further(sides: tuple[int, ...]) -> None:
    net = Detailer(1, 1, len(sides), width=8, dim=4, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        net.second.weight.fill_(0.3)
    for at in (
        tuple(side // 2 for side in sides),
        (0,) * len(sides),
    ):  # from a corner not around to the other
        x, c = states(*sides, n=1, channels=1).requires_grad_(), torch.zeros(1, 4)
        net(x, x.detach(), c)[(0, 0, *at)].backward()
        assert x.grad is not None
        along = ((torch.arange(n) - k).abs() for n, k in zip(sides, at, strict=True))
        far = torch.stack(torch.meshgrid(*along, indexing="ij")).amax(0)
        assert bool((x.grad[0, 0][far <= 2] != 0).all()) and bool((x.grad[0, 0][far > 2] == 0).all())


def test_the_condition_scales_and_shifts_what_lies_between_the_convolutions() -> None:
    net = Detailer(2, 2, 2, width=5, dim=3, generator=torch.Generator().manual_seed(1))
    x, y, c = states(6, 6), states(6, 6) + 1, torch.tensor([[1.0, 0, 0], [0, 2, 0]])
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.1 * torch.randn(p.shape, generator=torch.Generator().manual_seed(2)))
        z = net.first(torch.cat([x, y], 1))
        m = net.modulation(c)
        u = (1 + m[:, :5, None, None]) * z + m[:, 5:, None, None]
        assert torch.allclose(net(x, y, c), y + net.second(u * torch.sigmoid(u)), atol=1e-6)


def test_what_a_narrow_token_cannot_hand_through_goes_beside_it() -> None:
    """Noise of 32 values in tokens of 4 numbers: without convolutions seven eighths of it are lost."""

    def left(detail: int) -> float:
        net = network((8, 8), detail, patch=4, dim=4, depth=1, heads=1).train()
        optimizer = torch.optim.Adam(net.parameters(), 0.02)
        for step in range(150):
            x = Seeds.of(step, 32).normal(torch.empty(32, 2, 8, 8))
            loss = (net(x, torch.full((32,), 300.0)) - x).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return float(loss.detach())

    without, beside = left(0), left(8)
    assert without > 1 - 4 / 32 - 0.05 and beside < 0.2


def test_other_sizes_and_crops_pass() -> None:
    net = network((8, 12), 6, stir=0.1, free=True)
    assert net(states(16, 12), LABEL).shape == (2, 2, 16, 12)
    assert net(states(7, 5), LABEL).shape == (2, 2, 7, 5)


def test_its_size_is_what_it_says() -> None:
    plain, detailed = network((8, 8), 0), network((8, 8), 6)
    more = sum(p.numel() for p in detailed.parameters()) - sum(p.numel() for p in plain.parameters())
    assert more == (4 * 9 * 6 + 6) + (6 * 9 * 2 + 2) + (24 * 12 + 12)
    limit = math.sqrt(6 / (9 * (4 + 6)))
    assert detailed.detailer is not None
    assert 0.9 * limit < float(detailed.detailer.first.weight.abs().max()) <= limit
