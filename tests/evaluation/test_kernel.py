"""Kernel distance: closed forms, unbiasedness at every n, calibrated standard errors."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from kuosan.evaluation.kernel import gaussian, median_distance, mmd2, polynomial


def normal(n: int, d: int, seed: int) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def gaussian_mmd2(d: int, shift: float, bandwidth: float) -> float:
    """MMD² between N(0, I) and N(shift·1, I) under exp(−r²/2h²).

    x − x' ~ N(δ, 2I), so E k = (h²/(h²+2))^{d/2} exp(−|δ|²/(2(h²+2))).
    """
    h2 = bandwidth**2
    scale = (h2 / (h2 + 2)) ** (d / 2)
    return 2 * scale * (1 - math.exp(-d * shift**2 / (2 * (h2 + 2))))


def cubic_mmd2(d: int, shift: float) -> float:
    """MMD² between N(0, I) and N(shift·1, I) under (x·y/d + 1)³, from the moments of x·y.

    With x ~ N(a, I), y ~ N(b, I): E x·y = a·b, E(x·y)² = d + |a|² + |b|² + (a·b)²,
    E(x·y)³ = a·b (3d + 6 + 3|a|² + 3|b|² + (a·b)²).
    """

    def mean(p: float, q: float) -> float:
        dot, both = d * p * q, d * (p * p + q * q)
        second = d + both + dot**2
        third = dot * (3 * d + 6 + 3 * both + dot**2)
        return third / d**3 + 3 * second / d**2 + 3 * dot / d + 1

    return mean(0, 0) + mean(shift, shift) - 2 * mean(0, shift)


@pytest.mark.parametrize("shift", [0.0, 0.4])
@pytest.mark.parametrize("kernel", ["cubic", "gaussian"])
@pytest.mark.parametrize("n", [5, 60])
def test_unbiased_for_the_closed_form(kernel: str, shift: float, n: int) -> None:
    d, k = 3, polynomial if kernel == "cubic" else gaussian(2.0)
    true = cubic_mmd2(d, shift) if kernel == "cubic" else gaussian_mmd2(d, shift, 2.0)
    values = np.array([mmd2(normal(n, d, s), normal(n + 3, d, 9000 + s) + shift, k)[0] for s in range(300)])
    assert abs(values.mean() - true) < 3 * values.std(ddof=1) / math.sqrt(len(values))


@pytest.mark.parametrize("shift", [0.0, 0.15, 0.6])
@pytest.mark.parametrize("kernel", [polynomial, gaussian(2.0)], ids=["cubic", "gaussian"])
@pytest.mark.parametrize("sizes", [(100, 100), (60, 200)])
def test_standard_error_is_calibrated(kernel, shift: float, sizes: tuple[int, int]) -> None:
    runs = [mmd2(normal(sizes[0], 3, s), normal(sizes[1], 3, 9000 + s) + shift, kernel) for s in range(200)]
    values, errors = np.array(runs).T
    inside = np.mean(np.abs(values - values.mean()) < 2 * errors)
    assert 0.88 <= inside <= (0.995 if shift else 1.0)  # at equal laws the spread has a sharp lower end
    assert errors.mean() == pytest.approx(values.std(ddof=1), rel=0.3)


def test_matches_the_definition_and_chunks_do_not_matter() -> None:
    x, y = normal(7, 2, 1), normal(5, 2, 2)
    k = lambda a, b: (float(a @ b) / 2 + 1) ** 3  # noqa: E731
    xx = np.mean([k(a, b) for i, a in enumerate(x) for j, b in enumerate(x) if i != j])
    yy = np.mean([k(a, b) for i, a in enumerate(y) for j, b in enumerate(y) if i != j])
    xy = np.mean([k(a, b) for a in x for b in y])
    assert mmd2(x, y, polynomial)[0] == pytest.approx(xx + yy - 2 * xy, rel=1e-12)
    big, other = normal(1500, 2, 3), normal(1100, 2, 4)
    one = mmd2(big, other, polynomial)
    whole = polynomial(big, big).sum() - polynomial(big, big).diag().sum()
    rest = polynomial(other, other).sum() - polynomial(other, other).diag().sum()
    cross = polynomial(big, other).mean()
    assert one[0] == pytest.approx(float(whole / (1500 * 1499) + rest / (1100 * 1099) - 2 * cross), rel=1e-9)


def test_median_distance_scales_with_the_rows() -> None:
    x = normal(301, 2, 5)
    # |x − x'|² / 2 is χ² with 2 degrees of freedom, whose median is 2 ln 2.
    assert median_distance(x) == pytest.approx(math.sqrt(4 * math.log(2)), rel=0.06)
    assert median_distance(3 * x) == pytest.approx(3 * median_distance(x), rel=1e-12)
    assert median_distance(torch.zeros(4, 2)) == 1.0
