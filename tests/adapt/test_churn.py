"""Churn: the distance that it is chosen by is known in closed form, and what is kept is the least of all tried."""

from __future__ import annotations

import math

import pytest
import torch

from kuosan.adapt.churn import churn, draw, energy
from kuosan.adapt.flow import Flow, time_of
from kuosan.adapt.grids import stock_grids
from kuosan.core.random import Seeds
from kuosan.core.schedules import Cosine
from kuosan.solvers import DPMSolverPP, sample
from tests.adapt.test_controls import mixture


def normal(n: int, mean: float, seed: int) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    return mean + torch.randn(n, 1, generator=g, dtype=torch.float64)


@pytest.mark.parametrize("shift", [0.0, 0.5, 2.0])
def test_energy_distance_of_two_normals(shift: float) -> None:
    """E|X - Y| of N(0, 1) and N(μ, 1) is that of a folded normal of variance 2: μ erf(μ/2) + 2/√π exp(-μ²/4)."""

    def apart(m: float) -> float:
        return m * math.erf(m / 2) + 2 / math.sqrt(math.pi) * math.exp(-m * m / 4)

    exact = 2 * apart(shift) - 2 * apart(0.0)
    value, stderr = energy(normal(2000, 0.0, 1), normal(4000, shift, 2))
    assert abs(value - exact) < 4 * (stderr + 0.01)


def test_energy_distance_has_no_bias() -> None:
    """Small samples of one law: on average zero, and often below."""
    values = [energy(normal(8, 0.0, i), normal(8, 0.0, 1000 + i))[0] for i in range(400)]
    mean = sum(values) / len(values)
    spread = (sum((v - mean) ** 2 for v in values) / len(values)) ** 0.5
    assert abs(mean) < 4 * spread / len(values) ** 0.5
    assert min(values) < 0


def test_without_churn_it_is_the_deterministic_solver() -> None:
    denoiser = mixture(Cosine())
    rho = dict(stock_grids(Flow(denoiser), 6))["logsnr from 30 to 0.02"]
    seeds = Seeds.of(3, 70)
    like = torch.empty(1, 3, dtype=torch.float64)
    found = draw(denoiser, rho, torch.zeros(6, dtype=torch.float64), like, seeds, {})
    times = torch.cat([time_of(Cosine(), rho[:-1].log()), torch.zeros(1, dtype=torch.float64)])
    x = denoiser.process.prior(like.expand(70, 3), seeds.fold("prior"))
    x = x * float(Cosine().sigma(times[:1]))
    expected = sample(denoiser, DPMSolverPP(2), times, x, seeds)
    # the one tapers its order at the end, where the other's last step is of order one already
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
    noisy = draw(denoiser, rho, torch.ones(6, dtype=torch.float64), like, seeds, {})
    assert float((noisy - found).abs().mean()) > 1e-2
    assert torch.equal(noisy, draw(denoiser, rho, torch.ones(6, dtype=torch.float64), like, seeds, {}))


def test_what_is_kept_is_the_least_of_what_was_tried() -> None:
    denoiser = mixture(Cosine())
    g = torch.Generator().manual_seed(5)
    which = torch.randint(0, 4, (400,), generator=g)
    items = denoiser.means[which] + denoiser.variances[which].sqrt() * torch.randn(
        400, 3, generator=g, dtype=torch.float64
    )
    rhos = {n: r for n, r in stock_grids(Flow(denoiser), 5) if n == "logsnr from 30 to 0.02"}
    found = churn(denoiser, rhos, (items[:200], items[200:]), lambda n: {}, Seeds.of(0, 1), n=64)
    assert found.tried[found.kept][0] == min(v for v, _ in found.tried.values())
    assert set(found.tried) == {"learned", "η = 0", "η = 0.25", "η = 0.5", "η = 1"}
    assert found.eta.shape == (5,) and bool((found.eta >= 0).all()) and bool((found.eta <= 2).all())
    again = churn(denoiser, rhos, (items[:200], items[200:]), lambda n: {}, Seeds.of(0, 1), n=64)
    assert torch.equal(again.eta, found.eta) and again.tried == found.tried
    with pytest.raises(ValueError, match="two items"):
        churn(denoiser, rhos, (items[:1], items[200:]), lambda n: {}, Seeds.of(0, 1))
