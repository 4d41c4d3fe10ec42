"""Laws of the optimal reverse variances."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from kuosan.core.grids import Uniform
from kuosan.core.posteriors import Gaussian, Point
from kuosan.core.random import Seeds
from kuosan.core.schedules import EDM, Cosine, Rectified, VPLinear
from kuosan.core.shapes import as_time
from kuosan.denoisers.base import Denoiser
from kuosan.denoisers.calibrated import Calibrated, calibrate, tweedie_covariance, unit_variance
from kuosan.denoisers.exact import MixtureDenoiser
from kuosan.evaluation.likelihood import finite_bound
from kuosan.processes.gaussian import GaussianProcess
from kuosan.solvers import Ancestral, sample

from .exact_cases import SCHEDULES, mixture
from .test_bound import blobs, drawn, mean_and_error

F64 = torch.float64


class MeanOnly(Denoiser):
    """What a network knows of a mixture: the exact mean, or one that is off by a factor."""

    process: GaussianProcess

    def __init__(self, exact: MixtureDenoiser, factor: float = 1.0):
        super().__init__()
        self.exact, self.process, self.factor = exact, exact.process, factor

    def forward(self, x_t: Tensor, t: Tensor, **cond: Tensor) -> Point:
        return Point(self.exact(x_t, t).mean * self.factor)


class Wide(MeanOnly):
    """The larger of the two hand-made variances."""

    def forward(self, x_t: Tensor, t: Tensor, **cond: Tensor) -> Gaussian:  # type: ignore[override]
        variance = unit_variance(self.process.schedule.level(t))
        return Gaussian(self.exact(x_t, t).mean, variance[:, None].expand_as(x_t))


def fitted(denoiser: Denoiser, x: Tensor, batch: int = 512) -> Calibrated:
    return calibrate(denoiser, [(part, {}) for part in x.split(batch)], Seeds.of(11, batch))


@pytest.mark.parametrize("name", ["vp_linear", "cosine", "rectified", "edm"])
def test_for_unit_data_it_is_the_variance_of_unit_data(name: str) -> None:
    exact = MixtureDenoiser(
        GaussianProcess(SCHEDULES[name]), torch.zeros(1, 4).double(), torch.ones(1, 4).double()
    )
    got = fitted(MeanOnly(exact), drawn(exact, 8192, 1))
    assert got.log_ratios.ndim == 1, "there is nothing to gain from a variance per element"
    assert torch.allclose(got.log_ratios, torch.zeros(1, dtype=F64), atol=4 / math.sqrt(8192 * 4 / 2))


def test_on_a_mixture_it_is_the_mean_of_the_exact_posterior_variance() -> None:
    exact = mixture(Cosine())
    got, x = fitted(MeanOnly(exact), drawn(exact, 16384, 1)), drawn(exact, 16384, 2)
    for log_snr in (-3.0, 0.0, 3.0, 6.0):
        t = as_time(exact.process.schedule.time_of(torch.tensor(log_snr, dtype=F64)), len(x))
        exactly = exact(exact.process.corrupt(x, t, Seeds.of(3, len(x))), t).variance
        wanted, error = mean_and_error(exactly.mean(1))
        assert float(got.variance(x[:1], t[:1]).mean()) == pytest.approx(wanted, rel=0.04, abs=3 * error)


def test_an_imperfect_mean_has_a_larger_variance() -> None:
    """Eq. 1 knows nothing of how the mean came about: V = Var + E(mean - x̂)²."""
    exact = mixture(Cosine())
    x, t = drawn(exact, 16384, 2), as_time(0.5, 16384)
    got = fitted(MeanOnly(exact, 0.7), drawn(exact, 16384, 1))
    q = exact(exact.process.corrupt(x, t, Seeds.of(3, len(x))), t)
    wanted = float((q.variance + (0.3 * q.mean).square()).mean())
    assert float(got.variance(x[:1], t[:1]).mean()) == pytest.approx(wanted, rel=0.03)


def test_a_variance_per_element_is_kept_only_where_it_pays() -> None:
    process, even = GaussianProcess(Cosine()), torch.ones(1, 6).double()
    uneven = torch.tensor([[1.0, 1.0, 0.01, 0.01, 0.1, 0.1]], dtype=F64)
    for variances, dims in ((even, 1), (uneven, 2)):
        exact = MixtureDenoiser(process, torch.zeros_like(variances), variances)
        got = fitted(MeanOnly(exact), drawn(exact, 2048, 1))
        assert got.log_ratios.ndim == dims
        few = fitted(MeanOnly(exact), drawn(exact, 2048, 1), batch=2048)
        assert few.log_ratios.ndim == 1, "one batch leaves nothing to compare on"
    t = as_time(0.5, 1)
    exactly = exact(torch.zeros(1, 6, dtype=F64), t).variance
    assert torch.allclose(got.variance(exactly, t), exactly, rtol=0.15)


def test_a_pixel_that_never_changed_keeps_some_variance() -> None:
    process = GaussianProcess(Cosine())
    variances = torch.tensor([[0.5, 0.5, 0.0]], dtype=F64)
    exact = MixtureDenoiser(process, torch.zeros_like(variances), variances)
    got = fitted(MeanOnly(exact), drawn(exact, 1024, 1), batch=256)
    assert got.log_ratios.ndim == 2
    v = got.variance(torch.zeros(1, 3, dtype=F64), as_time(0.3, 1))[0]
    assert 0 < float(v[2]) < 0.01 * float(v[0]) and float(v[2]) > 1e-5 * float(v[0])


def compare(exact: MixtureDenoiser, steps: int) -> tuple[Tensor, Tensor, Tensor]:
    """The bound of held-out items with the smaller, the larger and the fitted variance, at the same noise."""
    got, x = fitted(MeanOnly(exact), drawn(exact, 2048, 1)), drawn(exact, 2000, 2)
    seeds, grid = Seeds.of(5, len(x)), Uniform()(exact.process.schedule, steps)
    arms = (MeanOnly(exact), Wide(exact), got)
    small, wide, best = (finite_bound(arm, x, seeds, grid).total for arm in arms)
    return small, wide, best


@pytest.mark.parametrize("steps", [5, 10, 25, 50])
@pytest.mark.parametrize("d", [2, 16])
def test_the_bound_is_never_worse_than_with_a_hand_made_variance(steps: int, d: int) -> None:
    small, wide, best = compare(mixture(VPLinear()) if d == 2 else blobs(16), steps)
    for hand in (small, wide):
        gain, error = mean_and_error(hand - best)
        assert gain > -2 * error
        if steps <= 10:
            assert gain > 3 * error, "few steps are where it should pay"


def test_few_ancestral_steps_keep_the_variance_of_gaussian_data() -> None:
    """Exact, where either hand-made variance is not: each step's reverse law is normal."""
    variance = 0.3
    exact = MixtureDenoiser(
        GaussianProcess(Cosine()), torch.zeros(1, 2).double(), torch.full((1, 2), variance).double()
    )
    got = fitted(MeanOnly(exact), drawn(exact, 16384, 1))
    seeds, grid = Seeds.of(3, 20_000), Uniform()(exact.process.schedule, 5)
    noise = exact.process.prior(torch.empty(20_000, 2, dtype=F64), seeds)
    ends = [
        float(sample(arm, Ancestral(), grid, noise, seeds.fold(1)).var())
        for arm in (got, MeanOnly(exact), Wide(exact))
    ]
    assert ends[0] == pytest.approx(variance, rel=0.03)
    assert ends[1] < 0.8 * variance and ends[2] > 1.2 * variance


@pytest.mark.parametrize("schedule", [Cosine(), Rectified(), EDM()], ids=["cosine", "rectified", "edm"])
def test_the_means_slope_is_the_covariance(schedule: Cosine | Rectified | EDM) -> None:
    exact = mixture(schedule)
    t = torch.linspace(0.3, 0.7, 6, dtype=F64)
    x_t = exact.process.corrupt(drawn(exact, 6, 1), t, Seeds.of(1, 6))
    got = tweedie_covariance(exact, x_t, t)
    assert torch.allclose(got.diagonal(dim1=1, dim2=2), exact(x_t, t).variance, rtol=1e-8)
    assert torch.allclose(got, got.mT, rtol=1e-8, atol=1e-12), "a covariance is symmetric"
    # the off-diagonal, by brute force: components' posterior means vary together
    log_p, means, _ = exact._components(x_t, t)
    w = log_p.softmax(1)
    centred = means - (w[..., None] * means).sum(1, keepdim=True)
    assert torch.allclose(got[:, 0, 1], (w * centred[..., 0] * centred[..., 1]).sum(1), rtol=1e-8, atol=1e-12)


def test_the_curve_survives_being_saved_and_is_linear_between_levels() -> None:
    exact = mixture(Cosine())
    got = fitted(MeanOnly(exact), drawn(exact, 1024, 1))
    again = Calibrated(got.denoiser, **got.tensors())
    x_t, t = drawn(exact, 5, 3), torch.linspace(0.01, 0.99, 5, dtype=F64)
    assert torch.equal(got(x_t, t).variance, again(x_t, t).variance)
    assert torch.equal(got(x_t, t).mean, exact(x_t, t).mean)
    simple = Calibrated(got.denoiser, torch.tensor([-2.0, 2.0]), torch.tensor([-1.0, -3.0]))
    t = exact.process.schedule.time_of(torch.tensor([-9.0, -2.0, 1.0, 9.0], dtype=F64))
    v1 = unit_variance(exact.process.schedule.level(t))
    ratios = simple.variance(torch.zeros(4, 1, dtype=F64), t).flatten() / v1
    assert torch.allclose(ratios.log(), torch.tensor([-1.0, -1.0, -2.5, -3.0], dtype=F64))
