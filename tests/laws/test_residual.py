"""Laws of the score and of its residual in the Fokker–Planck equation."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from kuosan.core.posteriors import Point
from kuosan.core.random import Seeds
from kuosan.core.schedules import EDM, Cosine, Rectified, Schedule, Shifted, Sigmoid
from kuosan.core.shapes import as_time, at
from kuosan.denoisers.base import Denoiser
from kuosan.denoisers.exact import MixtureDenoiser
from kuosan.denoisers.network import NetworkDenoiser
from kuosan.denoisers.outputs import Output
from kuosan.explain import (
    coefficients,
    residual_by_level,
    score,
    score_residual,
)
from kuosan.processes.gaussian import GaussianProcess

from .exact_cases import SCHEDULES, mixture

F64 = torch.float64


@pytest.mark.parametrize("name", SCHEDULES)
def test_score_and_coefficients_are_those_of_the_mixture(name: str) -> None:
    law = mixture(SCHEDULES[name])
    t = SCHEDULES[name].time_of(torch.tensor([3.0, 0.5, -1.0], dtype=F64)).detach()
    x = torch.tensor([[0.4, -0.2], [-1.1, 0.6], [0.3, 1.4]], dtype=F64).requires_grad_()
    (expected,) = torch.autograd.grad(law.log_density(x, t).sum(), x)
    assert torch.allclose(score(law, x, t), expected, atol=1e-10)
    a, g2 = coefficients(SCHEDULES[name], t)
    # d(α² v + σ²)/dt = 2a (α² v + σ²) + g² for data of any variance v
    h = 1e-5
    for v in (0.0, 1.7):
        before, now, after = (
            SCHEDULES[name].alpha(t + d) ** 2 * v + SCHEDULES[name].sigma(t + d) ** 2 for d in (-h, 0, h)
        )
        assert torch.allclose((after - before) / (2 * h), 2 * a * now + g2, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_residual_of_an_exact_denoiser_is_rounding(name: str) -> None:
    """Of any data's: the residual does not know which data a model was to learn."""
    law = mixture(SCHEDULES[name])
    elsewhere = 2 * law.means[torch.arange(12) % 3] + 1
    for level in residual_by_level(law, elsewhere, (6.0, 2.0, 0.0, -3.0), Seeds.of(0, 12)):
        assert level.root < 1e-12, level


class Scaled(Denoiser):
    """Another denoiser's score, times a factor."""

    def __init__(self, inner: MixtureDenoiser, factor: float):
        super().__init__()
        self.inner, self.factor, self.process = inner, factor, inner.process

    def forward(self, x_t: Tensor, t: Tensor, **cond: Tensor) -> Point:
        level = self.process.schedule.level(t)
        s = self.factor * score(self.inner, x_t, t)
        return Point((x_t + at(level.sigma.square(), x_t) * s) / at(level.alpha, x_t))


@pytest.mark.parametrize("name", ["cosine", "rectified", "edm", "learned"])
@pytest.mark.parametrize("shape", [(1,), (1, 2, 2)])
def test_a_scaled_score_has_the_residual_that_paper_and_pencil_give(
    name: str, shape: tuple[int, ...]
) -> None:
    """For data N(0, v): r = c(1 - c) g² x/V² with V = α²v + σ², so √R = c|1 - c| σ³ |x|/(√d V²)."""
    schedule, v, c = SCHEDULES[name], 0.7, 1.3
    law = MixtureDenoiser(
        GaussianProcess(schedule), torch.zeros(1, *shape, dtype=F64), torch.full((1, *shape), v, dtype=F64)
    )
    x = torch.from_numpy(np.random.default_rng(2).normal(size=(5, *shape)))
    t = schedule.time_of(torch.tensor([5.0, 2.0, 0.0, -1.0, -3.0], dtype=F64)).detach()
    level = schedule.level(t)
    total = level.alpha.square() * v + level.sigma.square()
    root = c * (c - 1) * level.sigma**3 * x.flatten(1).norm(dim=1) / (x[0].numel() ** 0.5 * total.square())
    got = score_residual(Scaled(law, c), x, t, Seeds.of(0, 5))
    assert torch.allclose(got, root.square().detach(), rtol=1e-9)


class Linear(Denoiser):
    """The score -M x, which is no gradient unless M is symmetric."""

    def __init__(self, schedule: Schedule, matrix: Tensor):
        super().__init__()
        self.process, self.matrix = GaussianProcess(schedule), matrix

    def forward(self, x_t: Tensor, t: Tensor, **cond: Tensor) -> Point:
        level = self.process.schedule.level(t)
        return Point((x_t - at(level.sigma.square(), x_t) * (x_t @ self.matrix.T)) / at(level.alpha, x_t))


@pytest.mark.parametrize("schedule", [Cosine(), EDM()], ids=lambda s: type(s).__name__)
def test_a_field_that_is_no_gradient_has_the_residual_of_its_parts(schedule: Schedule) -> None:
    """For s = -M x: left - right = -2a M x - g² MᵀM x."""
    m = torch.tensor([[1.0, 0.7, 0.0], [-0.2, 0.5, 0.3], [0.4, 0.0, 0.8]], dtype=F64)
    x = torch.from_numpy(np.random.default_rng(4).normal(size=(3, 3)))
    t = schedule.time_of(torch.tensor([2.0, 0.0, -2.0], dtype=F64))
    a, g2 = (c.detach()[:, None] for c in coefficients(schedule, t))
    rest = -2 * a * (x @ m.T) - g2 * (x @ m.T @ m)
    expected = (schedule.sigma(t) / schedule.log_snr_rate(t)).detach().square() * rest.square().sum(1) / 3
    assert torch.allclose(score_residual(Linear(schedule, m), x, t, Seeds.of(0, 3)), expected, rtol=1e-9)


class Bent(Denoiser):
    """No data's denoiser, the same one on every schedule: x̂ depends on x_t/α and λ alone."""

    def __init__(self, schedule: Schedule):
        super().__init__()
        self.process = GaussianProcess(schedule)

    def forward(self, x_t: Tensor, t: Tensor, **cond: Tensor) -> Point:
        level = self.process.schedule.level(t)
        y = x_t / at(level.alpha, x_t)
        return Point((y + at(level.log_snr / 5, y) * y.roll(1, -1)).sin())


def bent_states(schedule: Schedule, repeats: int = 1) -> tuple[Tensor, Tensor]:
    """The same noisy states on every schedule, but for their scale."""
    t = schedule.time_of(torch.tensor([4.0, 1.0, -0.5, -2.0], dtype=F64)).detach().repeat(repeats)
    y = torch.tensor([[0.3, -0.8, 1.0], [1.1, 0.2, -0.4], [-0.5, 0.9, 0.1], [0.4, 0.3, -1.2]], dtype=F64)
    return at(schedule.alpha(t), y.repeat(repeats, 1)).detach() * y.repeat(repeats, 1), t


def test_a_residual_does_not_depend_on_the_schedule() -> None:
    results = []
    for schedule in (Cosine(), Rectified(), EDM(), Sigmoid(), Shifted(Cosine(), 2.0)):
        x_t, t = bent_states(schedule)
        results.append(score_residual(Bent(schedule), x_t, t, Seeds.of(0, 4)))
    assert all(torch.allclose(r, results[0], rtol=1e-7) for r in results) and bool((results[0] > 1e-3).all())


def test_random_probes_have_the_exact_square_as_their_mean() -> None:
    schedule, repeats = Cosine(), 3000
    x_t, t = bent_states(schedule)
    truth = score_residual(Bent(schedule), x_t, t, Seeds.of(0, 4))
    many = score_residual(Bent(schedule), *bent_states(schedule, repeats), Seeds.of(1, 4 * repeats), probes=2)
    values = many.reshape(repeats, 4)
    stderr = values.std(0) / math.sqrt(repeats)
    assert bool(((values.mean(0) - truth).abs() < 4 * stderr + 1e-12).all()), (values.mean(0), truth, stderr)
    assert float((stderr / truth).max()) < 0.05
    alone = score_residual(Bent(schedule), x_t, t, Seeds.of(7, 4), probes=3)
    part = score_residual(Bent(schedule), x_t[2:], t[2:], Seeds.of(7, range(2, 4)), probes=3)
    assert torch.allclose(alone[2:], part, rtol=1e-12), "neighbours do not matter"
    with pytest.raises(ValueError, match="two probes or more"):
        score_residual(Bent(schedule), x_t, t, Seeds.of(0, 4), probes=1)


class Wavy(nn.Module):
    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        return torch.tanh(x * at(label / 300, x) + 0.3)


@pytest.mark.parametrize(
    "schedule", [Sigmoid(), Shifted(Cosine(), 2.0), EDM()], ids=lambda s: type(s).__name__
)
@pytest.mark.parametrize("output", ["v", "velocity", "eps"])
def test_a_networks_residual_equals_differences_of_its_score(output: Output, schedule: Schedule) -> None:
    """Also where rates of the schedule are themselves derivatives that move with t."""
    model = NetworkDenoiser(GaussianProcess(schedule), Wavy(), output, 0.7)
    t = schedule.time_of(torch.tensor([2.0, 0.0, -2.0], dtype=F64))
    x, h = torch.tensor([[0.3], [-0.6], [0.9]], dtype=F64), 1e-4
    a, g2 = (c.detach() for c in coefficients(schedule, t))

    def s(y: Tensor, time: Tensor) -> Tensor:
        return score(model, y, time).detach()

    def phi(y: Tensor) -> Tensor:
        slope = (s(y + h, t) - s(y - h, t)) / (2 * h)
        return g2[:, None] / 2 * (slope + s(y, t).square()) - a[:, None] * y * s(y, t)

    rest = (s(x, t + h) - s(x, t - h)) / (2 * h) - (phi(x + h) - phi(x - h)) / (2 * h)
    expected = (schedule.sigma(t) / schedule.log_snr_rate(t)).square().detach() * rest[:, 0].square()
    got = score_residual(model, x, t, Seeds.of(0, 3))
    assert torch.allclose(got, expected, rtol=2e-3, atol=1e-9), (got, expected)
    single = score_residual(model, x.float(), t, Seeds.of(0, 3))
    assert single.dtype == F64 and torch.allclose(single, got, rtol=1e-3)


def test_a_level_reports_mean_error_and_count() -> None:
    schedule = Cosine()
    x = torch.from_numpy(np.random.default_rng(3).normal(size=(40, 3)))
    seeds = Seeds.of(5, 40)
    (row,) = residual_by_level(Bent(schedule), x, [1.0], seeds)
    t = as_time(row.t, 40)
    x_t = Bent(schedule).process.corrupt(x, t, seeds.fold("noise"))
    r = score_residual(Bent(schedule), x_t, t, seeds)
    assert float(schedule.log_snr(t)[0]) == pytest.approx(1.0) and row.log_snr == 1.0
    assert row.n == 40 and row.mean == pytest.approx(float(r.mean()))
    assert row.stderr == pytest.approx(float(r.std()) / math.sqrt(40)) and row.root**2 == pytest.approx(
        row.mean
    )
