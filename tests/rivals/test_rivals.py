"""Laws of the rivals: sizes, the game's invariances and penalties, a bound that is one, and the same bits per seed."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from kuosan.core.random import Seeds
from kuosan.rivals import GAN, VAE, Autoregressive, Rival, fit, fresh, parameters, solve_dim, solve_widths
from kuosan.rivals.fit import loss_of
from kuosan.rivals.gan import penalty, relativistic, shifted


class Rows:
    """States without conditions."""

    def __init__(self, x: Tensor) -> None:
        self.x = x

    def __len__(self) -> int:
        return len(self.x)

    def batch(self, index: Tensor, seeds: Seeds | None = None) -> tuple[Tensor, dict[str, Tensor]]:
        return self.x[index], {}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("kind", [VAE, GAN])
@pytest.mark.parametrize(
    ("shape", "target"), [((1, 28, 28), 60_000), ((4, 32), 300_000), ((1, 8, 8, 8), 150_000)]
)
def test_a_rival_is_as_large_as_it_is_asked_to_be(kind: Any, shape: tuple[int, ...], target: int) -> None:
    def count(widths: Any) -> int:
        return parameters(kind(shape, widths, {"class": 3}, generator()))

    assert abs(count(solve_widths(count, target, shape[1:])) / target - 1) < 0.1


@pytest.mark.parametrize(("conditions", "places"), [({}, False), ({"k": 7, "author": 3}, True)])
def test_the_width_of_an_autoregressive_rival_is_that_of_its_count(
    conditions: dict[str, int], places: bool
) -> None:
    made = Autoregressive(50, 24, 96, 3, conditions, generator(), places=places)
    assert solve_dim(parameters(made), 50, 24, 3, conditions, places) == 96


def test_the_relativistic_loss_does_not_see_a_constant_and_pairs_what_it_compares() -> None:
    a, b = torch.randn(2, 6, generator=generator(), dtype=torch.float64)
    assert torch.allclose(relativistic(a + 3.7, b + 3.7), relativistic(a, b))
    assert float(relativistic(b, b)) == pytest.approx(math.log(2))
    # softplus(-d) - softplus(d) = -d: exchanging the roles changes it by the mean difference.
    assert float(relativistic(a, b) - relativistic(b, a)) == pytest.approx(float((b - a).mean()))


def test_the_penalty_of_a_linear_critic_is_its_squared_weight() -> None:
    weight = torch.randn(3, 4, generator=generator(), dtype=torch.float64)

    class Linear(nn.Module):
        def forward(self, x: Tensor, cond: Any) -> Tensor:
            return (x * weight).flatten(1).sum(1)

    x = torch.randn(5, 3, 4, generator=generator(1), dtype=torch.float64)
    scores, slope = penalty(Linear(), x, {})
    assert torch.allclose(scores, (x * weight).flatten(1).sum(1))
    assert torch.allclose(slope, weight.square().sum())


def test_the_critic_learns_and_the_generator_stays_on_its_turn_and_the_other_way_round() -> None:
    made = GAN((1, 8, 8), [4, 8], {"class": 2}, generator())
    x, cond = torch.randn(4, 1, 8, 8, generator=generator()), {"class": torch.tensor([0, 1, 2, 1])}
    for turn, mover in enumerate(made.players()):
        for player in made.players():
            player.requires_grad_(player is mover).zero_grad(set_to_none=True)
        made.loss(turn, x, cond, Seeds.of(0, 4), 0.5).backward()
        assert any(p.grad is not None and bool(p.grad.any()) for p in mover.parameters())
        assert all(p.grad is None for q in made.players() if q is not mover for p in q.parameters())


def test_shifts_move_what_is_there_and_bring_in_nothing() -> None:
    x = torch.rand(64, 2, 16, 8, generator=generator()) + 1
    y = shifted(x, Seeds.of(3, 64))
    assert not torch.equal(x, y)
    for before, after in zip(x, y, strict=True):
        kept = after[after != 0]
        assert bool(torch.isin(kept, before).all())
        inside = after[0] != 0
        rows, columns = inside.any(1).sum(), inside.any(0).sum()
        assert rows >= 14 and columns >= 7 and int(inside.sum()) == int(rows * columns)


@pytest.mark.parametrize("noise", [[0.5, 0.5, 0.5, 0.5], [0.2, 0.5, 0.5, 1.0]])
def test_the_bound_of_a_vae_is_below_the_entropy_of_a_gaussian_that_it_can_represent_and_comes_near(
    noise: list[float],
) -> None:
    """x = w z + σ ε on four places, whose log-likelihood is known; with one σ for all places the second would lack 1.1
    nats, and a logistic lacks 0.04."""
    w, sigma = torch.tensor([1.0, -0.5, 0.8, 0.3]), torch.tensor(noise)
    truth = torch.distributions.MultivariateNormal(torch.zeros(4), torch.outer(w, w) + torch.diag(sigma**2))
    z, eps = torch.randn(3000, 1, generator=generator()), torch.randn(3000, 4, generator=generator(1))
    x = (z * w + sigma * eps)[:, None]
    train, val = Rows(x[:2400]), Rows(x[2400:])
    fitted = fresh(VAE((1, 4), [8], {}, generator(), latent=2))
    for _ in fit(fitted, train, val, seed=0, steps=300):
        pass
    exact = truth.log_prob(val.x[:, 0])
    bound = fitted.average.bound(val.x, {}, Seeds.of(0, len(val)))  # type: ignore[operator]
    error = float((exact - bound.float()).std()) / len(val) ** 0.5
    gap = float(exact.mean() - bound.mean())
    assert gap > -3 * error and gap < 0.2


@pytest.mark.parametrize("log_s", [-7.0, -3.0, 0.0, 2.0])
def test_what_a_decoder_says_of_a_place_is_a_distribution(log_s: float) -> None:
    """Of the 256 levels of a picture, those at the ends holding what is beyond, or of all numbers; at its middle it is
    as likely as the logistic is there."""
    made = VAE((1, 4), [8], {}, generator(), latent=2, level=2 / 255).double()
    levels = torch.linspace(-1, 1, 256, dtype=torch.float64)
    for mean in (-1.4, -0.7, 0.1, 1.0):
        sure, where = torch.tensor(log_s, dtype=torch.float64), torch.tensor(mean, dtype=torch.float64)
        assert float((-made.surprise(levels, where, sure)).exp().sum()) == pytest.approx(1, abs=1e-9)
        made.level, level = None, made.level
        x = where + sure.exp() * torch.linspace(-60, 60, 200_001, dtype=torch.float64)
        density = (-made.surprise(x, where, sure)).exp()
        assert float(torch.trapezoid(density, x)) == pytest.approx(1, abs=1e-6)
        assert float(density[100_000]) == pytest.approx(math.exp(-log_s) / 4)
        made.level = level


@pytest.mark.parametrize("kind", ["vae", "gan"])
def test_the_same_seed_gives_the_same_rival_and_its_samples_do_not_mind_their_neighbours(kind: str) -> None:
    x = torch.randn(96, 1, 8, 8, generator=generator())

    def trained() -> Rival:
        make: Any = {"vae": VAE, "gan": GAN}[kind]
        fitted = fresh(make((1, 8, 8), [4, 8], {}, generator()))
        steps = [event.step for event in fit(fitted, Rows(x), Rows(x[:40]), seed=1, steps=3)]
        assert steps == [1, 2, 3]
        return fitted.average

    a, b = trained(), trained()
    assert all(
        torch.equal(p, q) for p, q in zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    )
    together = a.sample({}, Seeds.of(7, 6))
    apart = torch.cat([b.sample({}, Seeds.of(7, [i])) for i in range(6)])
    assert torch.allclose(together, apart, atol=1e-5)


def test_an_autoregressive_rival_sees_only_what_is_before_and_draws_what_it_says() -> None:
    made = Autoregressive(3, 2, 32, 1, {}, generator()).eval()
    x = torch.tensor([[0, 1], [0, 2]])
    with torch.no_grad():
        first = made.nats(x, {})[:, 0]
        assert torch.allclose(first[0], first[1], atol=1e-6)
        pairs = torch.cartesian_prod(torch.arange(3), torch.arange(3))
        p = (-made.nats(pairs, {}).sum(1)).exp()
    assert float(p.sum()) == pytest.approx(1, abs=1e-5)
    drawn = made.sample({}, Seeds.of(0, 4000))
    share = torch.bincount(drawn[:, 0] * 3 + drawn[:, 1], minlength=9) / 4000
    assert bool(((share - p).abs() < 4 * (p * (1 - p) / 4000).sqrt() + 1e-3).all())


def test_what_is_kept_is_what_held_out_items_like_best() -> None:
    """Tokens at random: what is learned of 32 items by heart makes others dearer."""
    x = torch.randint(0, 8, (96, 12), generator=generator())
    held_out = Rows(x[32:])
    fitted = fresh(Autoregressive(8, 12, 32, 2, {}, generator()))
    for _ in fit(fitted, Rows(x[:32]), held_out, seed=0, steps=80):
        pass
    losses = [value for _, value in fitted.held_out]
    assert len(losses) == 20 and fitted.best < 60
    assert losses[-1] > min(losses) + 0.2
    assert loss_of(fitted.average, held_out, 0, "cpu") == min(losses)
