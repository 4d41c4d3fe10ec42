"""Precision, recall, density, coverage: known answers, dropped modes, junk, calibrated errors."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist

from kuosan.evaluation import Coverage, Density, Metric, Precision, Recall
from kuosan.evaluation.neighbours import Balls


def normal(n: int, d: int, seed: int) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def two_modes(n: int, seed: int) -> torch.Tensor:
    x = normal(n, 2, seed)
    x[: n // 2, 0] += 50
    return x


def test_a_dropped_mode_halves_recall_and_coverage_and_spares_precision() -> None:
    reference, samples = two_modes(400, 1), normal(400, 2, 2)
    assert Recall().value(samples, reference) == pytest.approx(0.5, abs=0.05)
    assert Coverage().value(samples, reference) == pytest.approx(0.5, abs=0.02)
    assert Precision().value(samples, reference) > 0.9


def test_junk_lowers_precision_and_density_by_its_share_and_spares_recall() -> None:
    reference, good = two_modes(400, 1), two_modes(400, 2)
    junk = good.clone()
    junk[::4] += 1e4 * (1 + torch.arange(100)[:, None])
    for metric in (Precision(), Density()):
        assert metric.value(junk, reference) == pytest.approx(0.75 * metric.value(good, reference), abs=0.06)
    assert Coverage().value(junk, reference) > 0.9


def test_equal_sets_are_perfect_and_density_is_about_one() -> None:
    x = normal(300, 3, 1)
    assert Precision().value(x, x) == Recall().value(x, x) == Coverage().value(x, x) == 1.0
    # Each row's ball holds its k neighbours and itself (Naeem et al. 2020): (k + 1)/k on average.
    assert Density().value(x, x) == pytest.approx(6 / 5, abs=1e-12)


def test_coverage_of_equal_laws_has_its_known_expectation() -> None:
    """Naeem et al. 2020, eq. 9: 1 − Π_{i<k} (n−1−i)/(2n−1−i) at equal n, for any law."""
    n, k = 120, 5
    values = [Coverage().value(normal(n, 2, s), normal(n, 2, 500 + s)) for s in range(60)]
    missed = 1.0
    for i in range(k):
        missed *= (n - i) / (2 * n - 1 - i)
    assert np.mean(values) == pytest.approx(1 - missed, abs=3 * np.std(values) / np.sqrt(60))


def test_matches_the_definitions_from_plain_distances() -> None:
    x, y = normal(60, 3, 1), normal(80, 3, 2) + 0.5
    apart = cdist(x, y)
    reach_x, reach_y = np.sort(cdist(x, x), 1), np.sort(cdist(y, y), 1)
    assert Precision().value(x, y) == pytest.approx((apart <= reach_y[:, 3]).any(1).mean())
    assert Recall().value(x, y) == pytest.approx((apart <= reach_x[:, 3][:, None]).any(0).mean())
    assert Density().value(x, y) == pytest.approx((apart <= reach_y[:, 5]).sum() / (5 * 60))
    assert Coverage().value(x, y) == pytest.approx((apart <= reach_y[:, 5]).any(0).mean())


def test_leaving_rows_out_equals_computing_without_them() -> None:
    """The jackknife's shortcut is exact."""
    x, y = normal(90, 3, 1), normal(100, 3, 2) + 0.3
    keep_x, keep_y = torch.arange(90) % 10 != 3, torch.arange(100) % 10 != 4
    for metric in (Precision(), Recall(), Density(), Coverage()):
        short = metric.statistic(Balls(x, y, metric.k), keep_x, keep_y)
        assert short == pytest.approx(metric.value(x[keep_x], y[keep_y]), abs=1e-12)


@pytest.mark.parametrize(
    ("metric", "scale"),
    [(Precision(), 1.2), (Recall(), 0.8), (Density(), 1.2), (Coverage(), 1.2)],
    ids=lambda m: getattr(m, "name", ""),
)
def test_standard_error_errs_to_the_safe_side_and_not_by_much(metric: Metric, scale: float) -> None:
    runs = []
    for seed in range(50):
        found = metric.estimate(scale * normal(200, 8, 2 * seed), normal(200, 8, 2 * seed + 1))
        runs.append((found.value, found.stderr))
    values, errors = np.array(runs).T
    assert np.mean(np.abs(values - values.mean()) < 2 * errors) >= 0.9
    assert 0.85 < errors.mean() / values.std(ddof=1) < 1.8
