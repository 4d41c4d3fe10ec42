"""Laws of the flow's inverse: to the exact flow's noise at order two, and back to where it came from."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from kuosan.core.grids import LogSNR
from kuosan.core.random import Seeds
from kuosan.core.schedules import Cosine
from kuosan.denoisers.exact import MixtureDenoiser
from kuosan.processes.gaussian import GaussianProcess
from kuosan.solvers import Heun, Midpoint, Solver, UniPC, invert, sample

from .exact_cases import SCHEDULES, flow, mixture

X = torch.tensor([[0.7, -0.4], [-1.2, 0.3], [0.1, 1.5]], dtype=torch.float64)
SEEDS = Seeds.of(0, 3)


def grid_of(name: str, steps: int, low: float = 7.0, high: float = -5.0) -> Tensor:
    """Falling times, even in λ from ``high`` to ``low``."""
    return SCHEDULES[name].time_of(torch.linspace(high, low, steps + 1, dtype=torch.float64)).detach()


@pytest.mark.parametrize("schedule", ["cosine", "rectified", "edm"])
def test_the_noise_is_the_exact_flows_at_order_two(schedule: str) -> None:
    denoiser = mixture(SCHEDULES[schedule])
    ends = grid_of(schedule, 1, 3.0, -3.0)
    exact = flow(denoiser, X, float(ends[1]), float(ends[0]))
    errors = []
    for steps in (32, 64):
        times = torch.linspace(float(ends[0]), float(ends[1]), steps + 1, dtype=torch.float64)
        errors.append(float((invert(denoiser, times, X) - exact).norm()))
    assert abs(math.log2(errors[0] / errors[1]) - 2) < 0.1, errors


@pytest.mark.parametrize("schedule", sorted(SCHEDULES))
@pytest.mark.parametrize("steps", [6, 13])
def test_there_and_back_is_exact_for_few_steps(schedule: str, steps: int) -> None:
    denoiser, times = mixture(SCHEDULES[schedule]), grid_of(schedule, steps)
    noise = invert(denoiser, times, X)
    assert float((noise - X).abs().min()) > 1e-3
    assert torch.allclose(sample(denoiser, Midpoint(), times, noise, SEEDS), X, rtol=0, atol=1e-11)
    down = sample(denoiser, Midpoint(), times, noise[[2, 0, 1]], SEEDS)
    assert torch.allclose(invert(denoiser, times, down), noise[[2, 0, 1]], rtol=0, atol=1e-10)


@pytest.mark.parametrize("solver", [Heun(), UniPC(3)])
def test_explicit_methods_do_not_come_back(solver: Solver) -> None:  # type: ignore[type-arg]
    """The law above is one of the method, not of the problem."""
    denoiser, times = mixture(Cosine()), grid_of("cosine", 13)
    noise = sample(denoiser, solver, times.flip(0), X, SEEDS)
    assert float((sample(denoiser, solver, times, noise, SEEDS) - X).abs().max()) > 1e-4


def test_single_precision_comes_back_within_its_own() -> None:
    exact = mixture(Cosine())
    denoiser = MixtureDenoiser(exact.process, exact.means.float(), exact.variances.float())
    times, x = grid_of("cosine", 20, 15.0, -8.0), X.float()
    back = sample(denoiser, Midpoint(), times, invert(denoiser, times, x), SEEDS)
    assert back.dtype == torch.float32 and float((back - x).abs().max()) < 5e-5


@pytest.mark.parametrize("steps", [6, 12])
def test_on_a_gaussian_long_steps_are_solved(steps: int) -> None:
    """Both maps contract, however long the step: from almost clean to almost pure noise, and back."""
    process = GaussianProcess(Cosine())
    one = MixtureDenoiser(process, torch.tensor([[0.3, -0.2]]).double(), torch.tensor([[0.5, 1e-4]]).double())
    times = grid_of("cosine", steps, 12.0, -8.0)
    x = X * torch.tensor([1.0, 1e-2])
    assert torch.allclose(sample(one, Midpoint(), times, invert(one, times, x), SEEDS), x, rtol=0, atol=1e-11)


def test_a_gaussians_flow_keeps_the_standard_score() -> None:
    mean, variance = torch.tensor([[0.3, -0.6]]).double(), torch.tensor([[0.4, 0.02]]).double()
    denoiser = MixtureDenoiser(GaussianProcess(Cosine()), mean, variance)
    times = grid_of("cosine", 200)
    up = invert(denoiser, times, X)
    (a, s), (b, r) = ((Cosine().alpha(t), Cosine().sigma(t)) for t in (times[-1:], times[:1]))
    low, high = (
        (x - k * mean) / (k**2 * variance + n**2).sqrt() for x, k, n in ((X, a, s), (up, b, r))
    )  # fmt: skip
    assert torch.allclose(low, high, rtol=0, atol=5e-3 * float(low.abs().max()))


def test_on_a_line_the_flow_keeps_quantiles() -> None:
    """F_0(x) = Φ(z): the flow cannot carry one path over another."""
    means, variances = (
        torch.tensor([[-1.0], [0.2], [0.9]]).double(),
        torch.tensor([[0.02], [0.1], [0.01]]).double(),
    )
    weights = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    denoiser = MixtureDenoiser(GaussianProcess(Cosine()), means, variances, weights)
    normal = torch.distributions.Normal(0.0, 1.0)
    x = torch.linspace(-1.3, 1.1, 9, dtype=torch.float64)[:, None]
    below = (weights * normal.cdf((x - means.T) / variances.T.sqrt())).sum(1)
    times = LogSNR(rho_min=5e-4)(Cosine(), 81)[:-1]
    z = invert(denoiser, times, x * Cosine().alpha(times[-1:]))[:, 0]
    assert torch.allclose(normal.cdf(z), below, rtol=0, atol=0.01)  # at ρ = 80 a little of the mean is left
    assert bool((z[1:] > z[:-1]).all())


def test_neighbours_do_not_matter() -> None:
    denoiser, times = mixture(Cosine()), grid_of("cosine", 7)
    together = invert(denoiser, times, X)
    for i in range(3):
        assert torch.allclose(invert(denoiser, times, X[i : i + 1])[0], together[i], rtol=0, atol=1e-11)


def test_without_noise_there_is_nothing_to_invert() -> None:
    with pytest.raises(ValueError, match="σ > 0"):
        invert(mixture(Cosine()), torch.tensor([0.9, 0.5, 0.0]), X)


def test_no_item_is_lost_on_a_ridge_between_modes() -> None:
    """Six narrow clusters: where two of them share a state, a step that is too long would come back in the other."""
    generator = torch.Generator().manual_seed(0)
    means = 0.7 * torch.randn(6, 8, generator=generator, dtype=torch.float64)
    denoiser = MixtureDenoiser(GaussianProcess(Cosine()), means, torch.full((6, 8), 0.1, dtype=torch.float64))
    seeds = Seeds.of(0, 200)
    x = means[torch.arange(200) % 6] + 0.1**0.5 * seeds.normal(torch.empty(200, 8, dtype=torch.float64))
    times = LogSNR(rho_min=5e-4)(Cosine(), 41)[:-1]
    back = sample(denoiser, Midpoint(), times, invert(denoiser, times, x), seeds)
    assert torch.allclose(back, x, rtol=0, atol=1e-10)
