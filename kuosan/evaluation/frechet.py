"""Fréchet distance between the Gaussians that fit two sets of features.

    FD = |μ₁ − μ₂|² + tr Σ₁ + tr Σ₂ − 2 tr (Σ₁Σ₂)^{1/2}                    (1)  Dowson & Landau 1982

The usual code takes a matrix root of Σ₁Σ₂, which fails or turns complex when there are fewer samples than
dimensions. With centred rows A = (X − μ₁)/√(n−1) and B likewise, Σ₁ = AᵀA and

    tr (Σ₁Σ₂)^{1/2} = ‖A Bᵀ‖_*   (sum of singular values),                  (2)

which needs no root, no inverse and no full rank; QR factors keep it at d × d when n > d.

Standard error, by the delta method. The derivative of FD in Σ₁ is I − T, T the optimal transport map from
N(0, Σ₁) to N(0, Σ₂), and rows of A·T are rows of the gradient of (2), P·B with P the polar factor of A Bᵀ.
One sample x therefore moves FD by

    φ(x) = 2 (x−μ₁)·(μ₁−μ₂) + |x−μ₁|² − (x−μ₁)ᵀT(x−μ₁),   var FD ≈ var φ/n + var ψ/m,       (3)

ψ being the reference's own φ. Rows that come in pairs (a picture and its round trip through a codec) have the
variance of φ + ψ over pairs instead, divided by n. At equal distributions, where φ vanishes, (3) errs to the safe
side (by √2).

FD at finite n is biased upwards by about c/n. Chong & Forsyth (2020) fit FD against 1/n and read off the
intercept. `FrechetInfinity` does so with both sets cut into K = 1…4 disjoint parts: there the biases of
samples and of reference both grow as K, and the intercept at K = 0 is free of both. It may be negative.
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from kuosan.evaluation.base import Better, Estimate, Metric
from kuosan.evaluation.estimates import shuffled


def _centred(rows: Float[Tensor, "n d"]) -> tuple[Float[Tensor, " d"], Float[Tensor, "n d"]]:
    rows = rows.double()
    mean = rows.mean(0)
    return mean, (rows - mean) / math.sqrt(len(rows) - 1)


def frechet_distance(x: Float[Tensor, "n d"], y: Float[Tensor, "m d"]) -> float:
    """Eq. (1) by eq. (2), in float64; n, m ≥ 2; any d, also d > n."""
    (mean_x, a), (mean_y, b) = _centred(x), _centred(y)
    root_a = torch.linalg.qr(a, mode="r").R if len(a) > a.shape[1] else a
    root_b = torch.linalg.qr(b, mode="r").R if len(b) > b.shape[1] else b
    overlap = torch.linalg.svdvals(root_a @ root_b.T).sum()
    spread = a.square().sum() + b.square().sum() - 2 * overlap
    return max(0.0, float((mean_x - mean_y).square().sum() + spread))


def frechet_stderr(x: Float[Tensor, "n d"], y: Float[Tensor, "m d"], *, paired: bool = False) -> float:
    """Eq. (3): the standard error of `frechet_distance` over fresh x and y, or over fresh pairs of them."""
    (mean_x, a), (mean_y, b) = _centred(x), _centred(y)
    q_a, root_a = torch.linalg.qr(a) if len(a) > a.shape[1] else (None, a)
    q_b, root_b = torch.linalg.qr(b) if len(b) > b.shape[1] else (None, b)
    u, s, vh = torch.linalg.svd(root_a @ root_b.T, full_matrices=False)
    # Null directions have no defined polar factor; they carry no variance and must carry no gradient either.
    live = s > s[:1] * 1e-10
    polar = u[:, live] @ vh[live]
    moved_a, moved_b = polar @ root_b, polar.T @ root_a
    moved_a = moved_a if q_a is None else q_a @ moved_a
    moved_b = moved_b if q_b is None else q_b @ moved_b
    step = mean_x - mean_y
    moves = []
    for rows, moved, sign in ((a, moved_a, 1.0), (b, moved_b, -1.0)):
        n = len(rows)
        phi = 2 * sign * math.sqrt(n - 1) * (rows @ step) + (n - 1) * (rows * (rows - moved)).sum(1)
        moves.append(phi)
    if paired:
        moves = [moves[0] + moves[1]]
    return math.sqrt(sum(float(phi.var() / len(phi)) for phi in moves))


class FrechetDistance(Metric):
    """Fréchet distance of eq. (1): notices shifts, lost or added variance, wrong correlations."""

    name: ClassVar[str] = "fd"
    better: ClassVar[Better] = "lower"
    needs: ClassVar[tuple[str, ...]] = ("features",)
    notices: ClassVar[tuple[str, ...]] = ("dropped modes", "noise")

    def value(self, samples: Float[Tensor, "n d"], reference: Float[Tensor, "m d"], **needs: Tensor) -> float:
        return frechet_distance(samples, reference)

    def estimate(
        self, samples: Float[Tensor, "n d"], reference: Float[Tensor, "m d"], **needs: Tensor
    ) -> Estimate:
        return Estimate(frechet_distance(samples, reference), frechet_stderr(samples, reference))


class FrechetInfinity(Metric):
    """Fréchet distance extrapolated to endless samples and reference; its floor is about 0.

    Reliable where a quarter of either set still has more rows than the features have dimensions.
    """

    name: ClassVar[str] = "fd_inf"
    better: ClassVar[Better] = "lower"
    needs: ClassVar[tuple[str, ...]] = ("features",)
    notices: ClassVar[tuple[str, ...]] = ("dropped modes", "noise")
    least: ClassVar[int] = 8
    parts: ClassVar[tuple[int, ...]] = (1, 2, 3, 4)

    def value(self, samples: Float[Tensor, "n d"], reference: Float[Tensor, "m d"], **needs: Tensor) -> float:
        x, y = samples[shuffled(samples, 1)], reference[shuffled(reference, 2)]
        heights = [
            sum(frechet_distance(x[i::k], y[i::k]) for i in range(k)) / k for k in self.parts
        ]  # one mean distance per K: every row is used once at each K
        centre = sum(self.parts) / len(self.parts)
        spread = sum((k - centre) ** 2 for k in self.parts)
        slope = sum((k - centre) * h for k, h in zip(self.parts, heights, strict=True)) / spread
        return sum(heights) / len(heights) - slope * centre

    def estimate(
        self, samples: Float[Tensor, "n d"], reference: Float[Tensor, "m d"], **needs: Tensor
    ) -> Estimate:
        # Means over disjoint parts have the same first-order influence as the whole, and the weights of the
        # intercept sum to 1: to first order the intercept varies as FD itself does.
        note = "extrapolated in 1/n from 1 to 1/4 of both sets"
        return Estimate(self.value(samples, reference), frechet_stderr(samples, reference), note=note)
