"""Densities of times: what is drawn has the density that is divided by."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import truncnorm

from kuosan.core.random import Seeds
from kuosan.core.schedules import EDM, Cosine, Schedule
from kuosan.training.timing import TIMINGS, LogitNormalTiming, LogNormalTiming, Timing
from tests.laws.exact_cases import SCHEDULES
from tests.training.small import midpoints

PAIRS = [
    pytest.param(timing, schedule, id=f"{a}-{b}")
    for a, timing in TIMINGS.items()
    for b, schedule in SCHEDULES.items()
]


@pytest.mark.parametrize(("timing", "schedule"), PAIRS)
def test_the_density_is_one_over_the_quantile_functions_slope(timing: Timing, schedule: Schedule) -> None:
    u = torch.linspace(0.02, 0.98, 49, dtype=torch.float64)
    step = 1e-5
    with torch.no_grad():
        slope = (timing.quantile(schedule, u + step) - timing.quantile(schedule, u - step)) / (2 * step)
        # A table has kinks, and a difference across one is neither of its slopes.
        smooth = (timing.quantile(schedule, u + step) + timing.quantile(schedule, u - step)) / 2
        smooth = (smooth - timing.quantile(schedule, u)).abs() < 1e-9
        found = timing.density(schedule, u) * slope
    assert int(smooth.sum()) > 30
    assert torch.allclose(found[smooth], torch.ones(int(smooth.sum()), dtype=torch.float64), rtol=2e-3)


@pytest.mark.parametrize(("timing", "schedule"), PAIRS)
def test_a_histogram_of_draws_has_the_stated_density(timing: Timing, schedule: Schedule) -> None:
    u = midpoints(40_000)
    with torch.no_grad():
        t, p = timing.quantile(schedule, u), timing.density(schedule, u)
    edges = torch.linspace(float(t[400]), float(t[-400]), 13, dtype=torch.float64)
    counts = np.histogram(t.numpy(), edges.numpy())[0] / len(u)
    for low, high, share in zip(edges[:-1], edges[1:], counts, strict=True):
        inside = (t >= low) & (t <= high)  # as fine as the density asks for
        mass = np.trapezoid(p[inside].numpy(), t[inside].numpy())
        assert mass == pytest.approx(share, abs=3e-4, rel=0.01)


@pytest.mark.parametrize("schedule", [EDM(), Cosine(), EDM(0.1, 3.0)], ids=["edm", "cosine", "short"])
@pytest.mark.parametrize(("mean", "std"), [(-1.2, 1.2), (0.4, 0.7)])
def test_log_normal_times_are_a_truncated_normal_in_log_rho(
    schedule: Schedule, mean: float, std: float
) -> None:
    u = torch.linspace(0.001, 0.999, 101, dtype=torch.float64)
    t = LogNormalTiming(mean, std).quantile(schedule, u)
    ends = -schedule.log_snr(torch.tensor([0.0, 1.0], dtype=torch.float64)) / 2
    low, high = ((ends - mean) / std).tolist()
    wanted = truncnorm.ppf(u.numpy(), low, high, loc=mean, scale=std)
    assert np.allclose(-schedule.log_snr(t).numpy() / 2, wanted, atol=1e-6)
    assert bool((t > 0).all()) and bool((t < 1).all())


def test_logit_normal_times_have_normal_logits() -> None:
    u = torch.linspace(0.01, 0.99, 99, dtype=torch.float64)
    t = LogitNormalTiming(0.5, 1.5).quantile(Cosine(), u)
    wanted = truncnorm.ppf(u.numpy(), -np.inf, np.inf, loc=0.5, scale=1.5)
    assert np.allclose(torch.logit(t).numpy(), wanted, atol=1e-6)


@pytest.mark.parametrize("batch", [1, 2, 7, 64, 129])
def test_stratified_draws_put_exactly_one_time_into_each_part(batch: int) -> None:
    for seed in range(20):
        u = TIMINGS["uniform"].draw(Seeds.of(seed, batch))
        assert (u * batch).floor().tolist() == list(range(batch))


def test_within_its_part_a_time_is_uniform() -> None:
    inside = torch.stack([TIMINGS["uniform"].draw(Seeds.of(seed, 8)) * 8 for seed in range(500)])
    inside = (inside - inside.floor()).flatten().sort().values
    # Kolmogorov-Smirnov: at n = 4000 a distance of 0.031 has a probability below 0.001.
    assert float((inside - midpoints(4000)).abs().max()) < 0.031
