"""Laws of the transformer: symmetry, padding, conditions, and no use of global randomness."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from kuosan.networks import Transformer
from kuosan.networks.transformer import label_frequencies, positions


def make(
    height: int = 8, width: int = 12, *, seed: int = 0, scale: float = 0.1, **leaves: object
) -> Transformer:
    """A transformer whose zero-initialised layers have been filled too."""
    generator = torch.Generator().manual_seed(seed)
    shape: dict = {"patch": 4, "dim": 32, "depth": 2, "heads": 4} | leaves
    network = Transformer(2, (height, width), generator=generator, **shape)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * scale)
    return network.eval()


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def batch(height: int = 8, width: int = 12, n: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(9)
    return torch.randn(n, 2, height, width, generator=generator), torch.tensor([0.3, 512.0, 998.7])[:n]


def test_starts_as_zero_and_leaves_the_global_generator_alone() -> None:
    before = torch.random.get_rng_state()
    networks = [
        Transformer(2, (8, 12), patch=4, dim=32, depth=2, heads=4, generator=torch.Generator().manual_seed(s))
        for s in (5, 5, 6)
    ]
    assert torch.equal(torch.random.get_rng_state(), before)
    assert networks[0](*batch()).abs().max() == 0
    first, same, other = (n.blocks[1].qkv.weight for n in networks)
    assert torch.equal(first, same) and not torch.equal(first, other)
    assert all(torch.isfinite(p).all() for p in networks[0].parameters())


def test_examples_do_not_see_each_other() -> None:
    network, (x, label) = make(conditions={"class": 4}), batch()
    value = torch.tensor([1, 4, 2])
    together = network(x, label, **{"class": value})
    for i in range(3):
        alone = network(x[i : i + 1], label[i : i + 1], **{"class": value[i : i + 1]})
        torch.testing.assert_close(together[i : i + 1], alone, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("waves", [0, 3])
def test_what_is_unordered_goes_with_any_order_of_its_places(waves: int) -> None:
    """And says the same of a place whatever else it is called: of how many there are it says something."""
    network = Transformer(
        3, (20,), patch=1, dim=32, depth=2, heads=1, unordered=True, waves=waves, generator=generator(0)
    ).double()
    for p in network.parameters():
        p.data.normal_(0, 0.3, generator=generator(1))
    x, label = torch.randn(2, 3, 20, generator=generator(2)).double(), torch.tensor([3.0, 500.0]).double()
    order = torch.randperm(20, generator=generator(3))
    y = network(x, label)
    assert torch.allclose(network(x[:, :, order], label), y[:, :, order], atol=1e-10)
    other = x.clone()
    other[:, :, 5] += 1
    assert (network(other, label) - y)[:, :, 7].abs().min() > 1e-6, "others are heard"
    twice = network(torch.cat([x[:, :, :1], x[:, :, :1], x[:, :, 2:]], 2), label)
    assert torch.allclose(twice[:, :, 0], twice[:, :, 1], atol=1e-12)


def test_waves_tell_places_apart_that_lie_close() -> None:
    """sin and cos of π/2 · 2^k times what comes in, k = 0, 1, …: of whole numbers the first alone says something."""
    network = Transformer(
        1, (4,), patch=1, dim=32, depth=1, heads=1, unordered=True, waves=3, generator=generator(0)
    )
    assert network.embed.in_features == 7
    seen = []
    network.embed.register_forward_hook(lambda module, args, out: seen.append(args[0]))
    x = torch.tensor([0.0, 1.0, 2.0, 0.5])
    network(x.view(1, 1, 4), torch.zeros(1))
    (rows,) = seen[0]
    wanted = [x] + [f(math.pi / 2 * 2**k * x) for k in range(3) for f in (torch.sin, torch.cos)]
    assert torch.allclose(rows, torch.stack(wanted, 1), atol=1e-6)


def test_without_positions_it_commutes_with_moving_patches() -> None:
    network, (x, label) = make(), batch()
    network.pos.zero_()
    moved = network(x.roll((4, 8), dims=(2, 3)), label)
    torch.testing.assert_close(moved, network(x, label).roll((4, 8), dims=(2, 3)), atol=1e-6, rtol=1e-5)
    network.pos.copy_(positions((2, 3), 32))
    assert (network(x.roll(4, dims=3), label) - network(x, label).roll(4, dims=3)).abs().max() > 1e-2


def test_padding_repeats_the_edge_and_is_cropped() -> None:
    odd, whole = make(6, 9), make(8, 12)
    assert odd.state_dict().keys() == whole.state_dict().keys()
    x, label = batch(6, 9)
    expected = whole(F.pad(x, (0, 3, 0, 2), mode="replicate"), label)[:, :, :6, :9]
    torch.testing.assert_close(odd(x, label), expected)


def test_condition_rows_add_and_missing_means_null() -> None:
    network, (x, label) = make(conditions={"type": 3, "items": 5}), batch()
    null = network(x, label)
    same = network(x, label, type=torch.full((3,), 3), items=torch.full((3,), 5))
    assert torch.equal(null, same)
    given = {"type": torch.tensor([0, 1, 3]), "items": torch.tensor([5, 4, 0])}
    change = network.table.column("type")[given["type"]] + network.table.column("items")[given["items"]]
    change = change - network.table.column("type")[3] - network.table.column("items")[5]
    torch.testing.assert_close(network.condition(label, given), network.condition(label, {}) + change)


def test_conditions_that_do_not_exist_are_refused() -> None:
    network, (x, label) = make(conditions={"a": 3}), batch()
    for cond in (
        {"b": torch.zeros(3, dtype=torch.int64)},
        {"a": torch.full((3,), 4)},
        {"a": torch.full((3,), -1)},
    ):
        try:
            network(x, label, **cond)
        except ValueError as error:
            assert next(iter(cond)) in str(error)
        else:
            raise AssertionError("an impossible condition was accepted")


def test_positions_and_frequencies_are_the_published_ones() -> None:
    frequency = label_frequencies()
    assert frequency[0] == 1 and abs(float(frequency[-1]) - 1e-4) < 1e-10
    place = positions((3, 5), 16).view(3, 5, 16)
    assert torch.equal(place[0, :, :8], place[2, :, :8])  # the first half is the column's
    assert torch.equal(place[:, 0, 8:], place[:, 4, 8:])  # the second half is the row's
    torch.testing.assert_close(place[0, 3, 1], torch.tensor(3 / 10.0).sin())  # ω_1 = 10000^(-1/4)
    torch.testing.assert_close(place[2, 0, 8 + 4], torch.tensor(2.0).cos())


def test_dropout_is_a_function_of_the_batch() -> None:
    network, (x, label) = make(dropout=0.3), batch()
    sure = network(x, label)
    before = torch.random.get_rng_state()
    network.train()
    first, again, other = network(x, label), network(x, label), network(x, label + 1e-3)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(first, again)
    assert (first - sure).abs().max() > 1e-2
    assert (first - other).abs().max() > 1e-2  # a thousandth of a label changes a mask, and little else
    assert (network.eval()(x, label + 1e-3) - sure).abs().max() < 1e-2


def test_dropout_keeps_the_mean() -> None:
    from kuosan.networks.dropout import Dropout, reseed

    layers = [Dropout(0.25), Dropout(0.25)]
    reseed(layers, torch.arange(200) / 7)
    ones = torch.ones(200, 200)
    first, second = (layer(ones) for layer in layers)
    for out in (first, second):
        kept = (out > 0).float().mean()
        assert abs(float(kept) - 0.75) < 5 * (0.75 * 0.25 / 40_000) ** 0.5
        assert torch.equal(out.unique(), torch.tensor([0, 1 / 0.75]))
    assert abs(float(((first > 0) == (second > 0)).float().mean()) - (0.75**2 + 0.25**2)) < 0.02
    same = (first > 0).float().corrcoef().fill_diagonal_(0)  # of 19,900 pairs of examples
    assert float(same.std()) < 1.1 / 200**0.5 and float(same.abs().max()) < 5.5 / 200**0.5
    reseed(layers, torch.arange(200) / 7 + 1e-3)
    assert not torch.equal(layers[0](ones), first)
    reseed(layers, torch.arange(200)[50:60] / 7)  # the same examples without their neighbours
    assert torch.equal(layers[0](ones[50:60]), first[50:60])
