"""Kernel distance: the unbiased squared maximum mean discrepancy (Gretton et al. 2012, eq. 3).

    MMD² = mean_{i≠j} k(x_i, x_j) + mean_{i≠j} k(y_i, y_j) − 2 mean_{ij} k(x_i, y_j)                    (1)

Its expectation is 0 for equal distributions at *every* n, so small sets may be compared; it can be negative.
Kernels: (x·y/d + 1)³ ("KID", Bińkowski et al. 2018), and exp(−|x−y|²/2h²) with h the median distance
between reference rows.

Standard error. With h_x(x) = mean k(x, ·) over x − mean k(x, ·) over y, and h_y likewise, the first-order
variance of (1) is plugged in as V₁ = 4 (var h_x/n + var h_y/m). The row means are noisy themselves, which
inflates V₁ by exactly twice the second-order variance of (1),

    V₂ = 2 v_xx/n² + 2 v_yy/m² + 4 v_xy/(nm),     v the mean square of the doubly centred kernel,     (2)

so that var MMD² ≈ V₁ − 2V₂ + V₂, and never below V₂, its exact size at equal distributions.        (3)
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from kuosan.evaluation.base import Better, Estimate, Metric
from kuosan.evaluation.estimates import thinned

Kernel = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class _Block:
    """Sums over one kernel matrix; a square block of a set with itself leaves its diagonal out."""

    rows: Float[Tensor, " n"]
    columns: Float[Tensor, " m"]
    square: float

    def centred_square(self, pairs: int) -> float:
        n, m = len(self.rows), len(self.columns)
        mean = float(self.rows.sum()) / pairs
        row, column = self.rows * n / pairs, self.columns * m / pairs
        return max(
            0.0,
            self.square / pairs - float(row.square().mean()) - float(column.square().mean()) + mean**2,
        )


def _block(x: Tensor, y: Tensor, kernel: Kernel, *, same: bool, chunk: int = 1024) -> _Block:
    rows, columns = torch.zeros(len(x), dtype=torch.float64), torch.zeros(len(y), dtype=torch.float64)
    square = 0.0
    for start in range(0, len(x), chunk):
        values = kernel(x[start : start + chunk], y)
        if same:
            i = torch.arange(len(values))
            values[i, i + start] = 0.0
        rows[start : start + chunk] = values.sum(1)
        columns += values.sum(0)
        square += float(values.square().sum())
    return _Block(rows, columns, square)


def mmd2(x: Float[Tensor, "n d"], y: Float[Tensor, "m d"], kernel: Kernel) -> tuple[float, float]:
    """(value, standard error) of eq. (1), in float64; n, m ≥ 2. Memory grows as max(n, m), time as n·m."""
    x, y = x.double(), y.double()
    n, m = len(x), len(y)
    xx, yy, xy = (
        _block(x, x, kernel, same=True),
        _block(y, y, kernel, same=True),
        _block(x, y, kernel, same=False),
    )
    value = xx.rows.sum() / (n * (n - 1)) + yy.rows.sum() / (m * (m - 1)) - 2 * xy.rows.sum() / (n * m)
    h_x, h_y = xx.rows / (n - 1) - xy.rows / m, yy.rows / (m - 1) - xy.columns / n
    first = 4 * float(h_x.var() / n + h_y.var() / m)
    second = (
        2 * xx.centred_square(n * (n - 1)) / n**2
        + 2 * yy.centred_square(m * (m - 1)) / m**2
        + 4 * xy.centred_square(n * m) / (n * m)
    )
    return float(value), math.sqrt(max(first - second, second))


def polynomial(x: Float[Tensor, "n d"], y: Float[Tensor, "m d"]) -> Float[Tensor, "n m"]:
    """(x·y/d + 1)³."""
    return (x @ y.T / x.shape[1] + 1) ** 3


def gaussian(bandwidth: float) -> Kernel:
    """exp(−|x−y|²/2h²)."""
    return lambda x, y: torch.exp(torch.cdist(x, y).square() / (-2 * bandwidth**2))


def median_distance(rows: Float[Tensor, "n d"], most: int = 1000) -> float:
    """Median distance between different rows (of at most `most` of them); 1 where all rows are equal."""
    apart = torch.pdist(thinned(rows, most).double())
    return float(apart.median()) or 1.0


class _KernelMetric(Metric):
    better: ClassVar[Better] = "lower"
    needs: ClassVar[tuple[str, ...]] = ("features",)
    notices: ClassVar[tuple[str, ...]] = ("dropped modes", "noise")

    @abstractmethod
    def kernel(self, reference: Float[Tensor, "m d"]) -> Kernel:
        """The kernel, which may take its scale from the reference (never from the samples)."""

    def value(self, samples: Float[Tensor, "n d"], reference: Float[Tensor, "m d"], **needs: Tensor) -> float:
        return mmd2(samples, reference, self.kernel(reference))[0]

    def estimate(
        self, samples: Float[Tensor, "n d"], reference: Float[Tensor, "m d"], **needs: Tensor
    ) -> Estimate:
        return Estimate(*mmd2(samples, reference, self.kernel(reference)))


class KernelDistance(_KernelMetric):
    """MMD² with the cubic kernel of KID: the first three moments, unbiased at every n."""

    name: ClassVar[str] = "kd"

    def kernel(self, reference: Float[Tensor, "m d"]) -> Kernel:
        return polynomial


class GaussianKernelDistance(_KernelMetric):
    """MMD² with a Gaussian kernel of the reference's median distance: notices any difference of laws."""

    name: ClassVar[str] = "kd_rbf"

    def kernel(self, reference: Float[Tensor, "m d"]) -> Kernel:
        return gaussian(median_distance(reference))
