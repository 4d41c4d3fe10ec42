"""Given parts in training: which there are, that they cost nothing, and that nothing else changes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from kuosan.core.random import Seeds
from kuosan.core.schedules import Cosine
from kuosan.denoisers.network import NetworkDenoiser
from kuosan.networks import build_network
from kuosan.networks.given import GIVEN, blind, made_to_see, seen, told
from kuosan.processes.gaussian import GaussianProcess
from kuosan.training.coupling import Nearest
from kuosan.training.given import ALONG, NOTHING, Masks, _along, _box
from kuosan.training.objective import Denoising
from kuosan.training.views import Views
from tests.training.small import CLASSES, Implied, midpoints, state, training, walk

SHAPES = [(1, 12), (3, 6, 8), (2, 5, 4, 6)]
SPEC: dict[str, Any] = {
    "kind": "transformer", "channels": 1, "sides": [8, 12], "conditions": {"class": CLASSES}, "patch": 4, "dim": 16,
    "depth": 2, "heads": 1, "given": True,
}  # fmt: skip
UNETS: dict[str, dict[str, Any]] = {
    "unet": {"kind": "unet", "base": 8, "mults": [1, 2], "blocks": 1, "attention": []},
    "residual-unet": {"kind": "residual-unet", "base": 8, "mults": [1, 2], "blocks": 1, "attention": []},
}


def numbers(count: int, k: int) -> Tensor:
    return Seeds.of(3, count).uniform(torch.empty(count, k, dtype=torch.float64))


def steps(line: Tensor) -> Tensor:
    """How often a line changes along its places."""
    return line.long().diff(dim=1).abs().sum(1)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("time", [None, 0])
def test_a_share_of_the_examples_have_some_of_their_entries_given_and_never_all(
    shape: tuple[int, ...], time: int | None
) -> None:
    count, share = 2000, 0.4
    some, mask = Masks(share, time).draw(torch.empty(count, *shape), Seeds.of(0, count))
    assert float(some.double().mean()) == pytest.approx(share, abs=4 * (share * (1 - share) / count) ** 0.5)
    given = mask.flatten(1)
    assert not bool(given[~some].any()) and bool(given[some].any(1).all()) and not bool(given.all(1).any())
    assert bool((mask == mask[:, :1]).all()), "without groups all channels of a place are given, or none"
    assert 0.3 < float(given[some].double().mean()) < 0.7


@pytest.mark.parametrize("name", ALONG)
def test_each_family_along_a_side_is_what_it_says(name: str) -> None:
    n, count = 16, 4000
    line = _along(name, n, numbers(count, 2 + n))
    assert bool(line.any(1).all()) and not bool(line.all(1).any() and name != "frames")
    first, last = line[:, 0], line[:, -1]
    match name:
        case "prefix":
            assert bool(first.all()) and bool((steps(line) == 1).all())
            assert 0.2 < float((line.sum(1) == 1).double().mean()) < 0.35, "P(1 + ⌊15 u²⌋ = 1) = √(1/15)"
        case "suffix":
            assert bool(last.all()) and bool((steps(line) == 1).all())
        case "ends":
            assert bool((first & last).all()) and bool((steps(line)[~line.all(1)] == 2).all())
        case "gap":
            assert bool((steps(line) <= 2).all()) and set((n - line.sum(1)).tolist()) == set(range(1, n))
            assert bool((~line[(n - line.sum(1)) == 1]).any(0).all()), "a gap of one is anywhere"
        case "frames":
            assert set(line.sum(1).tolist()) >= set(range(1, n - 1)) and bool(line.any(0).all())


def test_a_box_is_one_stretch_of_every_side() -> None:
    sides = (6, 9, 5)
    inside = _box(sides, numbers(2000, 6))
    for k, n in enumerate(sides):
        others = [i + 1 for i in range(3) if i != k]
        along = inside.amax(others)
        size = along.sum(1)
        assert set(size.tolist()) == set(range(max(1, n // 4), n)) and bool((steps(along) <= 2).all())
    product = inside.amax((2, 3))[:, :, None, None] & inside.amax((1, 3))[:, None, :, None]
    assert torch.equal(inside, product & inside.amax((1, 2))[:, None, None])


def test_groups_of_channels_are_given_whole() -> None:
    groups = ((0, 1), (2,), (3, 4, 5))
    some, mask = Masks(1.0, 0, groups).draw(torch.empty(3000, 6, 10), Seeds.of(0, 3000))
    for group in groups:
        assert bool((mask[:, list(group)] == mask[:, [group[0]]]).all())
    split = (mask != mask[:, :1]).flatten(1).any(1)
    assert 0.08 < float(split.double().mean()) < 0.25, "one family of eight, and more often beside another"


def test_what_is_given_is_the_example_s_own_whatever_stands_beside_it() -> None:
    masks, like, seeds = Masks(0.7, None), torch.empty(40, 2, 6, 7), Seeds.of(4, 40)
    whole = masks.draw(like, seeds)
    order = torch.arange(40).flip(0)
    turned = masks.draw(like, seeds.take(order.tolist()))
    assert torch.equal(turned.mask[order], whole.mask) and torch.equal(turned.some[order], whole.some)
    assert torch.equal(masks.draw(like[:7], seeds[3:10]).mask, whole.mask[3:10])
    assert not torch.equal(masks.draw(like, seeds.fold("other")).mask, whole.mask)


class Wrong(nn.Module):
    """The exact network of unit data, but for given entries, of which it says anything; remembers what it was told."""

    def __init__(self) -> None:
        super().__init__()
        self.exact, self.heard = Implied(Cosine(), "v"), []

    def forward(self, x: Tensor, label: Tensor, **cond: Tensor) -> Tensor:
        answer = self.exact(x, label)
        if GIVEN in cond:
            mask, known = cond[GIVEN].chunk(2, 1)
            self.heard.append((mask, known))
            answer = answer + 1e3 * mask
        return answer


def test_the_loss_counts_only_what_is_not_given_and_the_errors_only_whole_examples() -> None:
    count, seeds = 1200, Seeds.of(1, 1200)
    network = Wrong()
    denoiser = NetworkDenoiser(GaussianProcess(Cosine()), network)
    x = seeds.fold("x").normal(torch.empty(count, 1, 4, 6, dtype=torch.float64))
    found = Denoising(given=Masks(0.5)).look(denoiser, x, midpoints(count), seeds)
    ((mask, known),) = network.heard
    assert torch.equal(known, x * mask)
    plain = Denoising().look(denoiser, x, midpoints(count), seeds)
    free = 1 - mask.mean((1, 2, 3))
    untouched = free == 1
    assert torch.allclose(found.losses[untouched], plain.losses[untouched], rtol=1e-12)
    # of independent unit data each free entry has the loss 1
    stderr = float((found.losses - free).std()) / count**0.5
    assert float((found.losses - free).mean()) == pytest.approx(0.0, abs=4 * stderr) and stderr < 0.02
    moved = Denoising(given=Masks(0.5), velocity=1.0, time=1).look(denoiser, x, midpoints(count), seeds)
    # of independent errors of variance 1 a difference has 2, beside something given 1; what is given is off by 10³
    free_or_not = (1 - mask).diff(dim=3).abs() + 2 * (1 - mask[..., 1:]) * (1 - mask[..., :-1])
    extra, wanted = moved.losses - found.losses, free_or_not.sum((1, 2, 3)) / 24
    stderr = float((extra - wanted).std()) / count**0.5
    assert float((extra - wanted).mean()) == pytest.approx(0.0, abs=4 * stderr) and stderr < 0.05
    twice = Denoising(given=Masks(0.5), feet=1.0, watched=lambda x: x)  # what is watched is the state itself
    seen = 1 + Cosine().log_snr(Cosine().clip(midpoints(count))).exp().clamp_max(1)
    losses = twice.look(denoiser, x, midpoints(count), seeds).losses
    assert torch.allclose(losses, seen * found.losses, rtol=1e-9)
    assert found.errors is not None and plain.errors is not None
    assert torch.equal(found.errors[0], plain.errors[0][untouched])
    assert torch.equal(found.errors[1], plain.errors[1][untouched])


def test_the_judge_asks_for_everything() -> None:
    assert Denoising(given=Masks(0.5)).judged() == Denoising()
    assert Denoising(given=Masks(0.5)).stage(1.0).given == Masks(0.5), "to the end: samplers give parts too"
    assert NOTHING.share == 0


def stirred(spec: dict[str, Any]) -> Any:
    """A network with no weight at zero."""
    g = torch.Generator().manual_seed(0)
    net = build_network(spec, g)
    for p in net.parameters():
        p.data.normal_(0, 0.2, generator=g)
    return net


@pytest.mark.parametrize(
    ("kind", "sides"),
    [("transformer", (8, 12)), ("transformer", (10,)), ("transformer", (3, 5, 6)), ("unet", (8, 12)),
     ("residual-unet", (16,)), ("residual-unet", (4, 8, 8))],
)  # fmt: skip
def test_networks_see_what_is_given_clean_and_not_the_noise_that_stands_there(
    kind: str, sides: tuple[int, ...]
) -> None:
    leaves = UNETS.get(kind, {"kind": kind, "patch": 2, "dim": 12, "depth": 1, "heads": 1})
    net = stirred({**leaves, "channels": 2, "sides": list(sides), "given": True})
    x, known, other = (Seeds.of(k, 3).normal(torch.empty(3, 2, *sides)) for k in range(3))
    mask = Masks(1.0).draw(x, Seeds.of(5, 3)).mask
    label = torch.tensor([10.0, 400.0, 900.0])
    y = net(x, label, **{GIVEN: told(known, mask)})
    assert y.shape == x.shape
    noise_elsewhere = torch.where(mask, other, x)
    assert torch.allclose(net(noise_elsewhere, label, **{GIVEN: told(known, mask)}), y, atol=1e-5)
    assert not torch.allclose(net(x, label, **{GIVEN: told(known + 1, mask)}), y, atol=1e-3)
    assert not torch.allclose(net(torch.where(mask, known, x), label), y, atol=1e-3), "the mask counts"
    none = torch.zeros_like(mask)
    assert torch.allclose(net(x, label, **{GIVEN: told(known, none)}), net(x, label), atol=1e-6)


@pytest.mark.parametrize("kind", ["transformer", "waves", "unet", "residual-unet"])
def test_a_network_is_made_to_see_and_blind_again_with_the_same_answers(kind: str) -> None:
    waves = {"waves": 2} if kind == "waves" else {}
    leaves = UNETS.get(kind, {"kind": "transformer", "patch": 2, "dim": 12, "depth": 1, "heads": 1, **waves})
    crops = {"coordinates": True} if kind in UNETS else {}
    spec: dict[str, Any] = {**leaves, **crops, "channels": 2, "sides": [8, 8]}
    old, new = stirred(spec), stirred(spec | {"given": True})
    new.load_state_dict(made_to_see(old.state_dict(), spec))
    x, label = Seeds.of(0, 2).normal(torch.empty(2, 2, 8, 8)), torch.tensor([10.0, 700.0])
    assert torch.allclose(new(x, label), old(x, label), atol=1e-6)
    for p in new.parameters():
        p.data.add_(0.1)
    old.load_state_dict(blind(new.state_dict(), spec))
    assert torch.allclose(new(x, label), old(x, label), atol=1e-6)


def test_seen_has_twice_the_channels() -> None:
    x, known = torch.ones(2, 3, 4), torch.full((2, 3, 4), 5.0)
    mask = torch.zeros(2, 3, 4, dtype=torch.bool)
    mask[:, :, 1] = True
    both, rest = seen(x, {GIVEN: told(known, mask), "class": torch.tensor([0, 1])})
    assert both.shape == (2, 6, 4) and list(rest) == ["class"]
    assert torch.equal(both[:, :3], torch.where(mask, known, x)) and torch.equal(both[:, 3:], mask.float())


class Pictures:
    """Items of noise in three classes."""

    def __len__(self) -> int:
        return 20

    def batch(self, index: Tensor, seeds: object = None) -> tuple[Tensor, dict[str, Tensor]]:
        x = Seeds.of(1, index.tolist()).normal(torch.empty(len(index), 1, 8, 12))
        return x, {"class": index % CLASSES}


@pytest.mark.parametrize("views", [Views(), Views(crops=0.5)], ids=["whole", "crops"])
def test_a_run_with_given_parts_is_killed_and_ends_with_the_same_bits(tmp_path: Path, views: Views) -> None:
    def run(folder: str) -> Any:
        objective = Denoising(given=Masks(0.5), views=views, coupling=Nearest(2))
        return training(
            tmp_path / folder, objective=objective, train=Pictures(), val=Pictures(),
            denoiser=NetworkDenoiser(GaussianProcess(Cosine()), stirred(SPEC)), steps=10, save_seconds=0.0, lr=1e-3,
        )  # fmt: skip

    straight, killed = run("straight"), run("killed")
    walk(straight)
    walk(killed, stop=6)
    again = run("killed")
    assert again.resume() and again.count.step < 10
    walk(again)
    assert state(again) == state(straight)


def test_a_network_that_is_told_learns_to_fill_what_is_hidden(tmp_path: Path) -> None:
    """Pictures of one grey each: what is given says all of the rest, and without it nothing does."""

    class Grey(Pictures):
        def batch(self, index: Tensor, seeds: object = None) -> tuple[Tensor, dict[str, Tensor]]:
            shade = 2 * Seeds.of(2, index.tolist()).uniform(torch.empty(len(index), 1, 1, 1)) - 1
            return shade.expand(-1, 1, 4, 6).contiguous(), {"class": index % CLASSES}

        def __len__(self) -> int:
            return 400

    run = training(
        tmp_path, objective=Denoising(given=Masks(0.7)), train=Grey(), val=Grey(), steps=150, batch=24, lr=1e-2,
        denoiser=NetworkDenoiser(
            GaussianProcess(Cosine()),
            build_network(
                SPEC | {"sides": [4, 6], "patch": 2, "depth": 1}, torch.Generator().manual_seed(0)
            ),
        ),
    )  # fmt: skip
    walk(run)
    x, _ = Grey().batch(torch.arange(400, 464))
    mask = torch.zeros_like(x, dtype=torch.bool)
    mask[..., :2] = True
    x_t, t = Seeds.of(9, 64).normal(x), torch.full((64,), 0.999, dtype=torch.float64)
    with torch.no_grad():
        off = (run.average(x_t, t, **{GIVEN: told(x, mask)}).mean - x)[~mask].square().mean()
        blind = (run.average(x_t, t).mean - x)[~mask].square().mean()
    assert float(off) < 0.35 * float(blind)
