"""Two more ways to hold samples against real items: a classifier that tries to tell them apart, and slices.

**Classifier two-sample test** (Lopez-Paz & Oquab 2017). Half of either set teaches a classifier, the √n nearest
neighbours of an item voting (their section 3), and the share of the other half that it puts on its right side is the
metric: ½ where nothing can be told, 1 where everything. With m held-out items of either side, of which K in all are
called samples, the number of samples among these is, where both sets have one law, hypergeometric whatever the
classifier learned, so that

    p = P( H ≥ h ),    H ~ Hypergeometric(2m, m, K)                                                 (1)

is exact (Fisher's test): below 5 % in no more than 5 % of all comparisons of real with real.

**Sliced Wasserstein distance** (Bonneel et al. 2015): the mean over L directions θ of the squared distance of the laws
along each, where the optimal transport is that of sorted values,

    SW² = (1/L) Σ_θ ∫₀¹ ( F⁻¹_x(u; θ) - F⁻¹_y(u; θ) )² du                                           (2)

Sets that are moved by v are |v|²/d apart in d dimensions, if the directions are all alike: here they are d columns of
random rotations, so that this is exact.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from kuosan.evaluation.base import Better, Estimate, Metric
from kuosan.evaluation.estimates import jackknife, share_stderr, shuffled

SLICES, GRID, GROUPS = 128, 512, 6


@dataclass(frozen=True)
class TwoSample:
    """Share of ``n`` held-out items that the classifier is right about, and the p-value of eq. 1."""

    accuracy: float
    p: float
    n: int


def two_sample_test(x: Float[Tensor, "n d"], y: Float[Tensor, "m d"]) -> TwoSample:
    """Eq. 1; the larger set is cut to the smaller one's size, whatever the order of either."""
    from scipy.stats import hypergeom

    n = min(len(x), len(y))
    half = n // 2
    x, y = (rows.double()[shuffled(rows)[:n]] for rows in (x, y))
    known = torch.cat([x[:half], y[:half]])
    scale = known.std(0).clamp_min(1e-12)
    side = torch.cat([torch.ones(half), torch.zeros(half)])
    asked = torch.cat([x[half:], y[half:]])
    m = n - half
    k = min(2 * half - 1, math.isqrt(2 * half) | 1)
    near = torch.cdist(asked / scale, known / scale).topk(k, largest=False).indices
    called = side[near].mean(1) > 0.5
    hits, all_called = int(called[:m].sum()), int(called.sum())
    p = float(hypergeom.sf(hits - 1, 2 * m, m, all_called))
    right = hits + m - (all_called - hits)
    return TwoSample(right / (2 * m), p, 2 * m)


class ClassifierTwoSample(Metric):
    """Accuracy of a classifier between samples and real items, held out; its p-value stands in the note."""

    name: ClassVar[str] = "c2st"
    better: ClassVar[Better] = "lower"
    needs: ClassVar[tuple[str, ...]] = ("features",)
    notices: ClassVar[tuple[str, ...]] = ("dropped modes", "noise")

    def value(self, samples: Float[Tensor, "n d"], reference: Float[Tensor, "m d"], **needs: Tensor) -> float:
        return two_sample_test(samples, reference).accuracy

    def estimate(
        self, samples: Float[Tensor, "n d"], reference: Float[Tensor, "m d"], **needs: Tensor
    ) -> Estimate:
        found = two_sample_test(samples, reference)
        words = f"one law for both: p = {found.p:.3g} (exact, {found.n} held-out items)"
        return Estimate(found.accuracy, share_stderr(found.accuracy, found.n), note=words)


def directions(d: int, most: int = SLICES) -> Float[Tensor, "d l"]:
    """Columns of random rotations, the same for every call: as many whole ones as hold ``most``, at least one."""
    generator = torch.Generator().manual_seed(0)
    count = max(1, most // d)
    return torch.cat(
        [
            torch.linalg.qr(torch.randn(d, d, generator=generator, dtype=torch.float64)).Q
            for _ in range(count)
        ],
        1,
    )


@dataclass(frozen=True)
class Slices:
    """Rows along every direction, each sorted, and the row that every value is of."""

    values: Float[Tensor, "n l"]
    order: Int[Tensor, "n l"]

    @classmethod
    def of(cls, rows: Float[Tensor, "n d"]) -> Slices:
        return cls(*(rows.double() @ directions(rows.shape[1])).sort(0))

    def kept(self, keep: Bool[Tensor, " n"]) -> Float[Tensor, "k l"]:
        """The sorted values of the rows that stay: what sorting them anew would give."""
        return self.values.T[keep[self.order].T].view(self.values.shape[1], -1).T


def _quantiles(values: Float[Tensor, "n l"]) -> Float[Tensor, "g l"]:
    """Of sorted values, in the middles of `GRID` equal parts, linear between two of them."""
    place = (torch.arange(GRID, dtype=torch.float64) + 0.5) / GRID * (len(values) - 1)
    low = place.floor().long()
    high = (low + 1).clamp_max(len(values) - 1)
    return torch.lerp(values[low], values[high], (place - low)[:, None])


def _between(a: Float[Tensor, "n l"], b: Float[Tensor, "m l"]) -> float:
    """Eq. 2 of sorted values."""
    if len(a) != len(b):
        a, b = _quantiles(a), _quantiles(b)
    return float((a - b).square().mean())


def sliced_wasserstein(x: Float[Tensor, "n d"], y: Float[Tensor, "m d"]) -> float:
    """Eq. 2."""
    return _between(Slices.of(x).values, Slices.of(y).values)


class SlicedWasserstein(Metric):
    """SW² of eq. 2: sees shape along every direction, not mean and covariance alone."""

    name: ClassVar[str] = "swd"
    better: ClassVar[Better] = "lower"
    needs: ClassVar[tuple[str, ...]] = ("features",)
    notices: ClassVar[tuple[str, ...]] = ("dropped modes", "noise")

    def value(self, samples: Float[Tensor, "n d"], reference: Float[Tensor, "m d"], **needs: Tensor) -> float:
        return sliced_wasserstein(samples, reference)

    def estimate(
        self, samples: Float[Tensor, "n d"], reference: Float[Tensor, "m d"], **needs: Tensor
    ) -> Estimate:
        mine, real = Slices.of(samples), Slices.of(reference)
        error = jackknife(lambda a, b: _between(mine.kept(a), real.kept(b)), samples, reference, GROUPS)
        return Estimate(_between(mine.values, real.values), error)
