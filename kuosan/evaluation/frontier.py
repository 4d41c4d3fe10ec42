"""MAUVE: how far two sets of features are apart, in both directions at once (Pillutla et al. 2021).

Both sets are quantised together by k-means, to histograms P (reference) and Q (samples). Against mixtures of the two,

    R_λ = λP + (1−λ)Q,      the curve (exp(−c KL(Q‖R_λ)), exp(−c KL(P‖R_λ))),  0 ≤ λ ≤ 1,  c = 5,          (1)

shows both kinds of error: samples that real items would not be, and real items that samples never are. MAUVE is
the area under the curve (with its end points on the axes), 1 for equal histograms. With k = n/10 clusters (at most
500) as in the paper, and ½ added to every count (Krichevsky & Trofimov; Pillutla et al. 2023, section 4.2).

It depends on n, on k and on the space, so it may only be read beside its floor, never against published values.
Standard error: the clusters given, the value depends on the counts alone, and the delete-one jackknife needs one
evaluation per cluster,  var ≈ (n−1)/n Σ_j n_j (θ_{−j} − mean θ_−)²,  summed over both sets.               (2)
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from kuosan.evaluation.base import Better, Estimate, Metric
from kuosan.evaluation.estimates import shuffled, thinned

SHARPNESS = 5.0  # c of eq. (1)
MOST_CLUSTERS = 500
MOST_ROWS = 5000


def frontier_area(
    p: Float[Tensor, "*b k"], q: Float[Tensor, "*b k"], points: int = 100
) -> Float[Tensor, "*b"]:
    """Eq. (1) for histograms of positive shares; in float64."""
    weight = torch.linspace(0, 1, points + 2, dtype=torch.float64)[1:-1]
    weight = weight.view(-1, *[1] * p.ndim)
    mixed = weight * p + (1 - weight) * q
    x = torch.exp(-SHARPNESS * (q * (q / mixed).log()).sum(-1))
    y = torch.exp(-SHARPNESS * (p * (p / mixed).log()).sum(-1))
    zero, one = torch.zeros_like(x[:1]), torch.ones_like(x[:1])
    # x falls and y rises with the weight of P: from (1, 0) to (0, 1).
    x, y = torch.cat([one, x, zero]), torch.cat([zero, y, one])
    return ((x[:-1] - x[1:]) * (y[:-1] + y[1:]) / 2).sum(0)


def _smooth(counts: Int[Tensor, "*b k"]) -> Float[Tensor, "*b k"]:
    shares = counts.double() + 0.5
    return shares / shares.sum(-1, keepdim=True)


def quantised(
    x: Float[Tensor, "n d"], y: Float[Tensor, "m d"]
) -> tuple[Int[Tensor, " k"], Int[Tensor, " k"]]:
    """Counts of both sets in clusters of their union, whatever the order of the rows."""
    from sklearn.cluster import KMeans

    x, y = x[shuffled(x, 1)].double(), y[shuffled(y, 2)].double()
    both = torch.cat([x, y])
    different = len(torch.unique(both, dim=0))
    k = max(2, min(MOST_CLUSTERS, min(len(x), len(y)) // 10))
    if different <= k:
        label = torch.unique(both, dim=0, return_inverse=True)[1]
        k = different
    else:
        label = torch.from_numpy(KMeans(k, n_init=2, random_state=0).fit_predict(both.numpy())).long()
    return torch.bincount(label[: len(x)], minlength=k), torch.bincount(label[len(x) :], minlength=k)


def _variance(counts: Int[Tensor, " k"], values: Float[Tensor, " k"]) -> float:
    """Eq. (2) for one set: `values` with one item of each cluster left out."""
    n = int(counts.sum())
    mean = (counts * values).sum() / n
    return float((n - 1) / n * (counts * (values - mean).square()).sum())


class Mauve(Metric):
    """Area under the divergence frontier of eq. (1)."""

    name: ClassVar[str] = "mauve"
    better: ClassVar[Better] = "higher"
    needs: ClassVar[tuple[str, ...]] = ("features",)
    notices: ClassVar[tuple[str, ...]] = ("dropped modes", "noise")
    least: ClassVar[int] = 10

    def value(self, samples: Float[Tensor, "n d"], reference: Float[Tensor, "m d"], **needs: Tensor) -> float:
        theirs, mine = self._counts(samples, reference)
        return float(frontier_area(_smooth(theirs), _smooth(mine)))

    def estimate(
        self, samples: Float[Tensor, "n d"], reference: Float[Tensor, "m d"], **needs: Tensor
    ) -> Estimate:
        theirs, mine = self._counts(samples, reference)
        p, q = _smooth(theirs), _smooth(mine)
        left = torch.eye(len(mine), dtype=torch.long)
        without_mine = _smooth((mine - left).clamp(min=0))
        without_theirs = _smooth((theirs - left).clamp(min=0))
        variance = _variance(mine, frontier_area(p.expand_as(without_mine), without_mine))
        variance += _variance(theirs, frontier_area(without_theirs, q.expand_as(without_theirs)))
        note = f"{len(mine)} clusters, c = {SHARPNESS:g}"
        return Estimate(float(frontier_area(p, q)), math.sqrt(variance), note=note)

    def _counts(self, samples: Tensor, reference: Tensor) -> tuple[Tensor, Tensor]:
        mine, theirs = quantised(thinned(samples, MOST_ROWS), thinned(reference, MOST_ROWS))
        return theirs, mine
