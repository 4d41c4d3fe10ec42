"""Laws of networks over states of one, two and three sides: the same code must be right for all."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from kuosan.networks import build_network
from kuosan.networks.residual_unet import halvings
from kuosan.networks.sides import coordinates_of, cropped, padded
from kuosan.networks.transformer import positions
from kuosan.networks.view import View

CHANNELS = 2
SIDES = [(24,), (8, 12), (4, 8, 8)]
KINDS: dict[str, dict[str, Any]] = {
    "transformer": {"patch": 4, "dim": 32, "depth": 2, "heads": 4},
    "residual-unet": {"base": 8, "mults": [1, 2], "blocks": 1, "attention": [1], "coordinates": True},
}


def make(kind: str, sides: tuple[int, ...], **leaves: Any) -> nn.Module:
    """A network whose zero-initialised layers have been filled too."""
    generator = torch.Generator().manual_seed(1)
    spec = {"kind": kind, "channels": CHANNELS, "sides": list(sides), "conditions": {"class": 3}}
    network = build_network(spec | KINDS[kind] | leaves, generator)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return network.eval()


def batch(sides: tuple[int, ...], n: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(9)
    return torch.randn(n, CHANNELS, *sides, generator=generator), torch.tensor([0.3, 512.0, 998.7])[:n]


@pytest.mark.parametrize("sides", SIDES)
@pytest.mark.parametrize("kind", KINDS)
def test_starts_as_zero_without_the_global_generator_and_with_examples_apart(
    kind: str, sides: tuple[int, ...]
) -> None:
    spec = {"kind": kind, "channels": CHANNELS, "sides": sides} | KINDS[kind]
    one, two = (build_network(spec, torch.Generator().manual_seed(5)) for _ in range(2))
    x, label = batch(sides)
    assert one(x, label).abs().max() == 0
    assert all(
        torch.equal(a, b) and torch.isfinite(a).all()
        for a, b in zip(one.parameters(), two.parameters(), strict=True)
    )
    network, value = make(kind, sides), torch.tensor([0, 3, 2])
    together = network(x, label, **{"class": value})
    assert together.shape == x.shape and together.std() > 0.05
    for i in range(3):
        alone = network(x[i : i + 1], label[i : i + 1], **{"class": value[i : i + 1]})
        torch.testing.assert_close(together[i : i + 1], alone, atol=1e-5, rtol=1e-4)
    assert (network(x, label) - together)[[0, 2]].abs().max() > 1e-3  # a class says something
    torch.testing.assert_close(network(x, label)[1], together[1], atol=1e-5, rtol=1e-4)  # null is no class


@pytest.mark.parametrize("sides", [(24,), (16, 12), (10, 16, 16)])
@pytest.mark.parametrize("kind", KINDS)
def test_padding_repeats_the_edge_and_is_cropped(kind: str, sides: tuple[int, ...]) -> None:
    """A network for odd sides is the one for even sides, on states whose edges go on."""
    fewer = tuple(n - 1 for n in sides)
    leaves = {"coordinates": False} if kind == "residual-unet" else {}
    odd, whole = make(kind, fewer, **leaves), make(kind, sides, **leaves)
    x, label = batch(fewer)
    torch.testing.assert_close(
        odd(x, label), cropped(whole(padded(x, sides), label), fewer), atol=1e-5, rtol=1e-4
    )


@pytest.mark.parametrize("sides", SIDES)
def test_a_transformer_without_positions_commutes_with_moving_patches(sides: tuple[int, ...]) -> None:
    network, (x, label) = make("transformer", sides), batch(sides)
    network.pos.zero_()  # type: ignore[union-attr, operator]
    y = network(x, label)
    for side in range(2, x.ndim):
        torch.testing.assert_close(network(x.roll(4, side), label), y.roll(4, side), atol=1e-5, rtol=1e-4)


def test_a_side_of_one_changes_nothing() -> None:
    """A picture is a clip of one frame: the same weights, the same values."""
    flat, deep = make("transformer", (8, 12)), make("transformer", (1, 8, 12), patch=(1, 4, 4))
    for network in (flat, deep):
        network.pos.zero_()  # type: ignore[union-attr, operator]
    x, label = batch((8, 12))
    torch.testing.assert_close(deep(x[:, :, None], label)[:, :, 0], flat(x, label))


@pytest.mark.parametrize("counts", [(7,), (3, 5), (2, 3, 4)])
def test_a_part_of_a_position_tells_of_one_side_alone(counts: tuple[int, ...]) -> None:
    dim = 28  # 14 frequencies: no multiple of three
    where = positions(counts, dim).view(*counts, dim)
    assert len(where.flatten(0, -2).unique(dim=0)) == torch.Size(counts).numel()
    first = 0
    for k, side in enumerate(reversed(range(len(counts)))):
        size = 2 * (dim // 2 // len(counts) + (k < dim // 2 % len(counts)))
        part = where[..., first : first + size].movedim(side, 0).reshape(counts[side], -1, size)
        assert torch.equal(part, part[:, :1].expand_as(part))
        torch.testing.assert_close(part[:, 0, 0], torch.arange(counts[side]).float().sin())
        first += size
    assert first == dim


@pytest.mark.parametrize("sides", SIDES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_crop_that_is_everything_is_the_whole(kind: str, sides: tuple[int, ...]) -> None:
    network, (x, label) = make(kind, sides), batch(sides)
    corner = torch.zeros(3, len(sides), dtype=torch.int64)
    torch.testing.assert_close(network(x, label, View(corner)), network(x, label))
    half = tuple(max(g, n // 2 // g * g) for n, g in zip(sides, network.grain, strict=True))  # type: ignore[arg-type]
    small = x[(slice(None), slice(None), *(slice(n) for n in half))]
    last = torch.tensor([[n - m for n, m in zip(sides, half, strict=True)]] * 3)
    here, there = network(small, label, View(corner)), network(small, label, View(last))
    assert (here - there).abs().max() > 1e-3 and here.shape == small.shape  # it is told where the crop lies


def test_coordinates_are_the_middles_of_places() -> None:
    where = coordinates_of((2, 4, 1))
    assert where.shape == (3, 2, 4, 1)
    assert where[0, :, 0, 0].tolist() == [-0.5, 0.5] and where[1, 0, :, 0].tolist() == [
        -0.75,
        -0.25,
        0.25,
        0.75,
    ]
    assert float(where[2].abs().max()) == 0


def test_short_sides_are_halved_less_often() -> None:
    assert halvings((8, 64, 64), 4) == [(2, 2, 2), (1, 2, 2), (1, 2, 2)]
    assert halvings((3,), 3) == [(1,), (1,)]
