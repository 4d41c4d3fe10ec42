"""Fréchet distance against closed forms, a matrix root, and its own spread."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.linalg
import torch

from kuosan.evaluation import FrechetInfinity
from kuosan.evaluation.frechet import frechet_distance, frechet_stderr


def normal(n: int, d: int, seed: int) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def exactly(n: int, mean: torch.Tensor, scales: torch.Tensor, seed: int) -> torch.Tensor:
    """Rows whose *sample* mean and covariance are exactly `mean` and diag(scales²)."""
    x = normal(n, len(mean), seed)
    q = torch.linalg.qr(x - x.mean(0)).Q  # orthonormal, and still of mean 0
    return mean + q * math.sqrt(n - 1) * scales


def test_closed_form_of_commuting_gaussians() -> None:
    """FD = |Δμ|² + Σ (s_i − r_i)² for diagonal covariances: here 9 + (1−2)² + (3−3)² + (0.5−0)²."""
    x = exactly(50, torch.tensor([3.0, 0, 0]).double(), torch.tensor([1.0, 3, 0.5]).double(), 1)
    y = exactly(80, torch.zeros(3).double(), torch.tensor([2.0, 3, 0]).double(), 2)
    assert frechet_distance(x, y) == pytest.approx(9 + 1 + 0.25, abs=1e-12)


def test_invariances() -> None:
    """The same for both orders, under any rotation and shift; scaled by c², it grows by c²."""
    x, y = normal(60, 5, 1) * 2 + 1, normal(70, 5, 2)
    value = frechet_distance(x, y)
    turn = torch.linalg.qr(normal(5, 5, 3)).Q
    assert frechet_distance(y, x) == pytest.approx(value, rel=1e-12)
    assert frechet_distance(x @ turn + 7, y @ turn + 7) == pytest.approx(value, rel=1e-10)
    assert frechet_distance(3 * x, 3 * y) == pytest.approx(9 * value, rel=1e-12)
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(("n", "m", "d"), [(200, 150, 12), (40, 500, 12), (30, 25, 29)])
def test_agrees_with_the_matrix_root(n: int, m: int, d: int) -> None:
    x, y = normal(n, d, n) @ normal(d, d, 5) / 3 + 0.2, normal(m, d, m) @ normal(d, d, 6) / 3
    cov_x, cov_y = np.cov(x.numpy(), rowvar=False), np.cov(y.numpy(), rowvar=False)
    root = scipy.linalg.sqrtm(cov_x)
    middle = np.linalg.eigvalsh(root @ cov_y @ root)
    expected = float((x.mean(0) - y.mean(0)).square().sum()) + np.trace(cov_x + cov_y)
    expected -= 2 * np.sqrt(np.clip(middle, 0, None)).sum()
    assert frechet_distance(x, y) == pytest.approx(expected.real, rel=1e-6)


def test_fewer_samples_than_dimensions() -> None:
    """Padding both sets with columns of zeros, or rotating them into more dimensions, changes nothing."""
    x, y = normal(12, 8, 1), normal(15, 8, 2) + 0.5
    frame = torch.linalg.qr(normal(300, 8, 3)).Q.T
    value = frechet_distance(x, y)
    assert frechet_distance(x @ frame, y @ frame) == pytest.approx(value, rel=1e-10)
    assert frechet_stderr(x @ frame, y @ frame) == pytest.approx(frechet_stderr(x, y), rel=1e-6)


@pytest.mark.parametrize(
    ("n", "d", "shift", "scale"), [(150, 4, 1.0, 1.5), (200, 3, 0.0, 1.6), (40, 60, 0.5, 1.4)]
)
def test_standard_error_is_calibrated(n: int, d: int, shift: float, scale: float) -> None:
    """Over repeats, about 95 % of values lie within ±2 stderr of their mean."""
    runs = []
    for seed in range(80):
        x, y = normal(n, d, 2 * seed) * scale + shift, normal(n, d, 2 * seed + 1)
        runs.append((frechet_distance(x, y), frechet_stderr(x, y)))
    values, errors = np.array(runs).T
    inside = np.mean(np.abs(values - values.mean()) < 2 * errors)
    assert 0.88 <= inside <= 1.0
    assert errors.mean() == pytest.approx(values.std(ddof=1), rel=0.3)


def test_standard_error_at_equal_laws_errs_to_the_safe_side() -> None:
    runs = [(normal(200, 6, 2 * s), normal(200, 6, 2 * s + 1)) for s in range(60)]
    spread = np.std([frechet_distance(x, y) for x, y in runs])
    errors = np.mean([frechet_stderr(x, y) for x, y in runs])
    assert spread < errors < 2 * spread


@pytest.mark.parametrize("shift", [0.0, 0.3])
def test_extrapolation_removes_the_bias(shift: float) -> None:
    """The plain distance is biased by many standard errors; the extrapolated one by hardly any."""
    d, n, runs = 20, 400, 24
    pairs = [(normal(n, d, 2 * s) + shift, normal(n, d, 2 * s + 1)) for s in range(runs)]
    plain = np.array([frechet_distance(x, y) for x, y in pairs])
    far = np.array([FrechetInfinity().value(x, y) for x, y in pairs])
    true, slack = d * shift**2, 3 * far.std(ddof=1) / math.sqrt(runs)
    bias = plain.mean() - true
    assert bias > 0.4 and bias > 3 * slack
    assert abs(far.mean() - true) < slack + 0.05 * bias


def test_pairs_vary_together() -> None:
    """Rows and what a codec left of them: the stated error is the spread over fresh pairs, and far below that of
    independent sets."""
    gain = torch.tensor([0.9, 0.8, 0.95, 1.0]).double()

    def pairs(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
        x = normal(150, 4, seed) * torch.tensor([1.0, 2, 3, 0.5]).double()
        return x, x * gain + 0.2 + 0.1 * normal(150, 4, seed + 5000)

    runs = [
        (frechet_distance(*p), frechet_stderr(*p, paired=True), frechet_stderr(*p))
        for p in map(pairs, range(200))
    ]
    values, paired, apart = (np.array(column) for column in zip(*runs, strict=True))
    assert paired.mean() == pytest.approx(values.std(), rel=0.15)
    assert paired.mean() < 0.6 * apart.mean()
