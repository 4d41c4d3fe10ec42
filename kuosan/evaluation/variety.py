"""How varied a set is, by itself: how many different items it has, and how far apart they lie.

**Vendi score** (Friedman & Dieng 2023, eq. 1). With a kernel k(x, x) = 1 and the eigenvalues λ_i of its matrix K/n,
which sum to 1,

    VS = exp( - Σ_i λ_i log λ_i )                                                                  (1)

counts the different items of a set: 1 where all are alike, n where none is like another, m for m groups of equal size
that have nothing in common. The kernel is exp(-|x-y|²/2h²) with h the median distance between reference rows, as for
`kd_rbf`, so that samples and real items are measured by one ruler. The score grows with n: compare at equal n.

**Pairwise distances.** The mean distance of two items of a set, and where these were asked for conditions, of two items
of one condition and of two of different ones, p_c being the shares of the conditions among the samples,

    within = Σ_c p_c E|x_c - x'_c|          between = Σ_{c≠d} p_c p_d E|x_c - x_d| / Σ_{c≠d} p_c p_d      (2)

with the same shares for real items. Means over pairs are free of bias at every n. Smaller than among real items is lost
variety; larger is noise, or conditions that are driven apart (strong guidance).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from kuosan.evaluation.base import Better, Estimate, Metric
from kuosan.evaluation.estimates import groups, thinned
from kuosan.evaluation.kernel import gaussian, median_distance

MOST_VENDI, MOST_PAIRS = 512, 2000  # rows
GROUPS = 10


def vendi(rows: Float[Tensor, "n d"], bandwidth: float) -> float:
    """Eq. 1."""
    rows = rows.double()
    share = torch.linalg.eigvalsh(gaussian(bandwidth)(rows, rows) / len(rows)).clamp_min(0)
    share = share[share > 0] / share.sum()
    return float(torch.exp(-(share * share.log()).sum()))


class Vendi(Metric):
    """Effective number of different items, eq. 1; its floor is that of as many real ones."""

    name: ClassVar[str] = "vendi"
    better: ClassVar[Better] = "higher"
    needs: ClassVar[tuple[str, ...]] = ("features",)
    notices: ClassVar[tuple[str, ...]] = ("dropped modes", "shrunk")

    def value(self, samples: Float[Tensor, "n d"], reference: Float[Tensor, "m d"], **needs: Tensor) -> float:
        return vendi(thinned(samples, MOST_VENDI), median_distance(reference))

    def estimate(
        self, samples: Float[Tensor, "n d"], reference: Float[Tensor, "m d"], **needs: Tensor
    ) -> Estimate:
        rows, bandwidth = thinned(samples, MOST_VENDI), median_distance(reference)
        note = f"of {MOST_VENDI} items at most" if len(samples) > MOST_VENDI else ""
        error = _jackknifed(lambda keep: vendi(rows[keep], bandwidth), rows)
        return Estimate(vendi(rows, bandwidth), error, note=note)


def _apart(rows: Float[Tensor, "n d"]) -> Float[Tensor, "n n"]:
    rows = thinned(rows, MOST_PAIRS).double()
    return torch.cdist(rows, rows)


def mean_pair(apart: Float[Tensor, "n n"]) -> float:
    """Mean distance of two different rows."""
    n = len(apart)
    return float(apart.sum()) / (n * (n - 1))


class Pairwise(Metric):
    """Mean distance of two items."""

    name: ClassVar[str] = "pairwise"
    better: ClassVar[Better] = "higher"
    needs: ClassVar[tuple[str, ...]] = ("features",)
    notices: ClassVar[tuple[str, ...]] = ("shrunk",)

    def value(self, samples: Float[Tensor, "n d"], reference: Float[Tensor, "m d"], **needs: Tensor) -> float:
        return mean_pair(_apart(samples))

    def estimate(
        self, samples: Float[Tensor, "n d"], reference: Float[Tensor, "m d"], **needs: Tensor
    ) -> Estimate:
        apart = _apart(samples)
        each = apart.sum(1) / (len(apart) - 1)  # a mean over pairs moves by twice what one item moves it
        return Estimate(mean_pair(apart), 2 * float(each.std()) / math.sqrt(len(apart)))


class _OfConditions(Metric):
    """A mean of eq. 2; its floor is that of the reference, with the samples' shares of the conditions."""

    better: ClassVar[Better] = "higher"
    needs: ClassVar[tuple[str, ...]] = ("features", "labels")
    notices: ClassVar[tuple[str, ...]] = ("shrunk",)
    same: ClassVar[bool]

    def value(self, samples: Float[Tensor, "n d"], reference: Float[Tensor, "m d"], **needs: Tensor) -> float:
        return self._with_error(samples, needs["labels"], self._shares(**needs))[0]

    def estimate(
        self, samples: Float[Tensor, "n d"], reference: Float[Tensor, "m d"], **needs: Tensor
    ) -> Estimate:
        shares = self._shares(**needs)
        value, stderr = self._with_error(samples, needs["labels"], shares)
        floor, floor_stderr = self._with_error(reference, needs["reference_labels"], shares)
        note = f"{len(shares)} conditions; real: {len(reference)} items, weighted to the conditions asked for"
        return Estimate(value, stderr, floor, floor_stderr, note)

    def _shares(self, labels: Int[Tensor, " n"], reference_labels: Int[Tensor, " m"]) -> dict[int, float]:
        """How often each condition was asked for, of those that have pairs of samples and of real items."""
        least = 2 if self.same else 1
        counts, real = (dict(zip(*(v.tolist() for v in torch.unique(x, return_counts=True)), strict=True))
                        for x in (labels, reference_labels))  # fmt: skip
        kept = {c: n for c, n in counts.items() if min(n, real.get(c, 0)) >= least}
        if len(kept) < (1 if self.same else 2):
            raise ValueError(f"{self.name}: too few samples and real items of one condition to make pairs of")
        return {c: n / sum(kept.values()) for c, n in kept.items()}

    def _with_error(
        self, rows: Float[Tensor, "n d"], labels: Int[Tensor, " n"], shares: dict[int, float]
    ) -> tuple[float, float]:
        joined = thinned(torch.cat([rows.double(), labels[:, None].double()], 1), MOST_PAIRS)
        rows, labels = joined[:, :-1], joined[:, -1].long()
        apart = torch.cdist(rows, rows)
        of = {c: (labels == c).double() for c in shares}

        def mean(keep: Tensor) -> float:
            sums = {c: apart @ (mask * keep) for c, mask in of.items()}  # of distances to all of a condition
            total = weight = 0.0
            for c, p in shares.items():
                mine = of[c] * keep
                for d, q in shares.items():
                    if (c == d) != self.same:
                        continue
                    pairs = float(mine.sum()) * (float((of[d] * keep).sum()) - (c == d))
                    if pairs > 0:
                        w = p if self.same else p * q
                        total, weight = total + w * float(mine @ sums[d]) / pairs, weight + w
            return total / weight

        return mean(torch.ones(len(rows), dtype=torch.float64)), _jackknifed(
            lambda keep: mean(keep.double()), rows
        )


def _jackknifed(statistic: Callable[[Tensor], float], rows: Tensor) -> float:
    """Of one set alone, `estimates` eq. 1."""
    values = torch.tensor([statistic(keep) for keep in groups(rows, GROUPS)], dtype=torch.float64)
    return math.sqrt((len(values) - 1) / len(values) * float((values - values.mean()).square().sum()))


class PairwiseWithin(_OfConditions):
    """Mean distance of two items of one condition."""

    name: ClassVar[str] = "pairwise_within"
    same: ClassVar[bool] = True


class PairwiseBetween(_OfConditions):
    """Mean distance of two items of different conditions."""

    name: ClassVar[str] = "pairwise_between"
    same: ClassVar[bool] = False
