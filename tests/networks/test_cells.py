"""The transformer over cells of a grid: which cell is which, and what turns with what."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from kuosan.core.nested import nested
from kuosan.errors import UserError
from kuosan.networks import build_network
from kuosan.networks.cells import CellTransformer
from kuosan.networks.tokens import axial, rotate, rotations

SIDES, SIZE = (4, 6, 8), 5
LENGTH = math.prod(SIDES)
T = torch.tensor([0.2, 0.9], dtype=torch.float64)


def network(**leaves: object) -> CellTransformer:
    spec = {
        "kind": "cells", "size": SIZE, "sides": list(SIDES), "patch": 2, "length": LENGTH, "channels": 4,
        "conditions": {"class": 3}, "dim": 32, "depth": 2, "heads": 2, **leaves,
    }  # fmt: skip
    net = build_network(spec, torch.Generator().manual_seed(0))
    assert isinstance(net, CellTransformer)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.1 * torch.randn(p.shape, generator=generator))
    return net.double().eval()


def rows(n: int = 2) -> Tensor:
    return torch.randint(SIZE + 1, (n, LENGTH), generator=torch.Generator().manual_seed(2))


def test_what_is_asked_for_is_what_comes_back() -> None:
    net, x, cond = network(), rows(), {"class": torch.tensor([0, 3])}
    all_of_it = net(x, T, **cond)
    assert all_of_it.shape == (2, LENGTH, SIZE)
    only = x == SIZE
    torch.testing.assert_close(net(x, T, only=only, **cond), all_of_it[only])
    assert not torch.allclose(net(x, T, **{"class": torch.tensor([1, 3])})[0], all_of_it[0])


def test_a_patch_is_a_block_of_the_grid() -> None:
    net = network()
    where = torch.empty(LENGTH, dtype=torch.int64)
    where[nested(SIDES)] = torch.arange(LENGTH)  # a state whose tokens say their place in it, as a grid
    grid = where.view(SIDES)
    read = net.inside.view(2, 3, 4, 8)
    for i, j, k in ((0, 0, 0), (1, 2, 3), (1, 0, 2)):
        block = grid[2 * i : 2 * i + 2, 2 * j : 2 * j + 2, 2 * k : 2 * k + 2]
        assert torch.equal(read[i, j, k], block.flatten())
    assert torch.equal(net.inside[net.outside], torch.arange(LENGTH))


def test_every_cell_is_seen_by_all() -> None:
    net, x = network(), rows()
    before = net(x, T)
    for place in (0, 77, LENGTH - 1):
        changed = x.clone()
        changed[:, place] = (x[:, place] + 1) % SIZE
        assert bool(((net(changed, T) - before).abs().amax(2) > 1e-9).all())


def test_a_cell_is_written_where_it_is_read() -> None:
    """Without a trunk and without places, what comes out at a patch depends on that patch alone."""
    net, x = network(depth=1), rows(1)
    for block in net.blocks:
        block.forward = lambda h, mods, attend: h  # type: ignore[method-assign]
    before = net(x, T[:1])
    changed = x.clone()
    changed[0, 50] = (x[0, 50] + 1) % SIZE
    moved = (net(changed, T[:1]) - before).abs().amax(2)[0] > 1e-12
    slot = int((net.inside == 50).nonzero())
    assert sorted(net.inside[moved[net.inside]].tolist()) == sorted(
        net.inside[slot // 8 * 8 : slot // 8 * 8 + 8].tolist()
    )


def test_turning_by_axes_leaves_only_how_far_two_places_are_apart() -> None:
    counts, dim = (3, 4, 5), 16
    cos, sin = (part.double() for part in axial(counts, dim, torch.device("cpu")))
    g = torch.Generator().manual_seed(0)
    q, k = (torch.randn(1, 1, 1, dim, generator=g, dtype=torch.float64).expand(1, 1, 60, dim) for _ in "qk")
    products = (rotate(q, cos, sin)[0, 0] @ rotate(k, cos, sin)[0, 0].T).view(*counts, *counts)
    for (a, b), (c, d) in (
        (((0, 0, 0), (1, 2, 3)), ((1, 1, 1), (2, 3, 4))),
        (((2, 3, 4), (2, 0, 1)), ((0, 3, 3), (0, 0, 0))),
    ):
        torch.testing.assert_close(products[*a, *b], products[*c, *d], rtol=1e-5, atol=1e-5)
    for b in ((1, 0, 0), (0, 1, 0), (0, 0, 1)):  # every side turns something
        assert abs(float(products[0, 0, 0, 0, 0, 0] - products[0, 0, 0, *b])) > 1e-3
    line = axial((7,), dim, torch.device("cpu"))
    assert all(torch.equal(a, b) for a, b in zip(line, rotations(7, dim, torch.device("cpu")), strict=True))


@pytest.mark.parametrize("leaves", [{"patch": 4}, {"length": LENGTH + 1}])
def test_patches_that_do_not_fit_are_refused(leaves: dict[str, int]) -> None:
    with pytest.raises(UserError, match="grid"):
        network(**leaves)


@pytest.mark.parametrize("sides", [(8, 8, 8), (4, 6, 8), (5, 1, 3), (3,), (1, 1)])
def test_the_nested_order_has_every_cell_once(sides: tuple[int, ...]) -> None:
    assert torch.equal(nested(sides).sort().values, torch.arange(math.prod(sides)))


def test_parts_of_the_nested_order_are_boxes() -> None:
    order = nested((8, 8, 8))
    cells = torch.stack([order // 64, order // 8 % 8, order % 8], 1)
    for length in (8, 64):
        parts = cells.view(-1, length, 3)
        spread = parts.amax(1) - parts.amin(1) + 1
        assert bool((spread == round(length ** (1 / 3))).all())


def test_what_is_evenly_apart_in_it_is_spread_evenly_over_the_grid() -> None:
    """One of every n/8 places lies in each eighth, wherever one begins; line by line that is not so."""
    order, halves = nested((12, 12, 12)), torch.arange(1728)
    eighth = (halves // 144 // 6) * 4 + (halves // 12 % 12 // 6) * 2 + halves % 12 // 6
    for first in (0, 17, 200):
        assert sorted(eighth[order[first::216]].tolist()) == list(range(8))
    assert len(set(eighth[17::216].tolist())) < 8
