"""Laws of denoisers in closed form: mixtures of Gaussians, tables of data and of tokens."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from scipy import stats
from torch import Tensor

from kuosan.core.curves import CosineSurvival
from kuosan.core.random import Seeds
from kuosan.core.schedules import Rectified, Schedule, VPLinear
from kuosan.core.shapes import as_time, at
from kuosan.denoisers.exact import MixtureDenoiser, TableDenoiser
from kuosan.processes.discrete import Masked, UniformNoise
from kuosan.processes.gaussian import GaussianProcess

from .exact_cases import SCHEDULES, mixture

F64 = torch.float64
NAMES = sorted(SCHEDULES)
PRESERVING = [n for n in NAMES if n not in {"rectified", "shifted_rectified", "edm", "shifted_edm"}]
B = 8  # as many examples as rows and columns of a picture, where wrong broadcasting is silent


def times(schedule: Schedule) -> Tensor:
    """Eight times, from much noise to little."""
    with torch.no_grad():
        return schedule.time_of(torch.linspace(-4.5, 9, B, dtype=F64))


def normal(seed: int, *shape: int) -> Tensor:
    return Seeds.of(seed, shape[0]).normal(torch.empty(shape, dtype=F64))


@pytest.mark.parametrize("name", NAMES)
def test_the_mixture_obeys_tweedie(name: str) -> None:
    """E[x | x_t] = (x_t + σ² ∇ log p)/α and Var = σ²/α² (1 + σ² ∂² log p) (Efron 2011), by autodiff."""
    denoiser = mixture(SCHEDULES[name])
    t = times(SCHEDULES[name])
    level = SCHEDULES[name].level(t)
    alpha, noise = (c.detach()[:, None] for c in (level.alpha, level.sigma.square()))
    x_t = (alpha * normal(0, B, 2) + noise.sqrt() * normal(1, B, 2)).requires_grad_()
    (score,) = torch.autograd.grad(denoiser.log_density(x_t, t).sum(), x_t, create_graph=True)
    curvature = torch.stack(
        [torch.autograd.grad(score[:, i].sum(), x_t, retain_graph=True)[0][:, i] for i in (0, 1)], 1
    )
    q = denoiser(x_t, t)
    assert torch.allclose(q.mean, (x_t + noise * score) / alpha, rtol=1e-9, atol=1e-9)
    assert torch.allclose(q.variance, noise / alpha**2 * (1 + noise * curvature), rtol=1e-6, atol=1e-9)


@torch.no_grad()
def test_the_mixtures_density_is_the_density() -> None:
    denoiser, t = mixture(VPLinear()), torch.tensor([0.3, 0.6], dtype=F64)
    x_t = normal(0, 2, 2)
    level = VPLinear().level(t)
    for i in range(2):
        expected = sum(
            float(weight)
            * stats.multivariate_normal(
                float(level.alpha[i]) * mean.numpy(),
                (level.alpha[i] ** 2 * variance + level.sigma[i] ** 2).diag().numpy(),
            ).pdf(x_t[i].numpy())
            for weight, mean, variance in zip(
                denoiser.log_weights.exp(), denoiser.means, denoiser.variances, strict=True
            )
        )
        assert float(denoiser.log_density(x_t, t)[i]) == pytest.approx(math.log(expected), rel=1e-12)


@torch.no_grad()
def test_the_mixture_forgets_everything_at_the_end_and_knows_everything_at_the_start() -> None:
    denoiser, x_t = mixture(Rectified()), normal(0, 5, 2)
    weights = denoiser.log_weights.exp()[:, None]
    end = denoiser(x_t, as_time(1.0, 5))
    mean = (weights * denoiser.means).sum(0)
    assert torch.allclose(end.mean, mean.expand(5, 2), rtol=1e-12)
    spread = (weights * (denoiser.variances + denoiser.means**2)).sum(0) - mean**2
    assert torch.allclose(end.variance, spread.expand(5, 2), rtol=1e-12)
    start = denoiser(x_t, as_time(0.0, 5))
    assert torch.allclose(start.mean, x_t, rtol=1e-12) and float(start.variance.max()) < 1e-12


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_a_table_of_data_is_a_mixture_without_width(name: str) -> None:
    process, items = GaussianProcess(SCHEDULES[name]), normal(7, 5, 2, 3)
    p = torch.tensor([0.1, 0.3, 0.2, 0.25, 0.15], dtype=F64)
    t = times(SCHEDULES[name])
    level = SCHEDULES[name].level(t)
    data = items[torch.arange(B) % 5]
    x_t = at(level.alpha, data) * data + at(level.sigma, data) * normal(8, B, 2, 3)
    table = TableDenoiser(process, items, p)(x_t, t)
    narrow = MixtureDenoiser(process, items, torch.full_like(items, 1e-14), p)(x_t, t)
    assert torch.allclose(table.mean, narrow.mean, rtol=0, atol=1e-9)
    assert torch.allclose(table.variance, narrow.variance, rtol=0, atol=1e-9)
    # and by hand: weights ∝ p N(x_t; α x, σ²)
    off = x_t[:, None] - at(level.alpha, x_t)[:, None] * items
    log_w = p.log() - off.square().flatten(2).sum(-1) / (2 * level.sigma.square()[:, None])
    assert torch.allclose(table.mean, torch.einsum("bn,nij->bij", log_w.softmax(1), items), rtol=0, atol=1e-9)


@pytest.mark.parametrize("kind", [Masked, UniformNoise])
@torch.no_grad()
def test_a_table_of_tokens_is_bayes_by_enumeration(kind: type[Masked] | type[UniformNoise]) -> None:
    size, process = 3, kind(3, CosineSurvival())
    items = torch.tensor([[0, 0, 1], [0, 2, 1], [1, 1, 0], [2, 0, 0], [2, 2, 2]])
    p = torch.tensor([0.35, 0.05, 0.2, 0.3, 0.1], dtype=F64)
    values = size + 1 if kind is Masked else size
    denoiser = TableDenoiser(process, items, p)
    for time, state in itertools.product((0.2, 0.7), itertools.product(range(values), repeat=3)):
        keep = 1 - math.cos(math.pi / 2 * (1 - time))
        expected, total = torch.zeros(3, size, dtype=F64), 0.0
        for item, prior in zip(items.tolist(), p.tolist(), strict=True):
            chance = prior
            for seen, true in zip(state, item, strict=True):
                noise = float(seen == size) if kind is Masked else 1 / size
                chance *= keep * (seen == true) + (1 - keep) * noise
            total += chance
            expected[range(3), item] += chance
        if total == 0:
            continue
        got = denoiser(torch.tensor([state]), torch.tensor([time], dtype=F64)).mean[0]
        assert torch.allclose(got, expected / total, rtol=1e-12, atol=1e-15)
