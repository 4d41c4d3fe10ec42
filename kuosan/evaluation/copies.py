"""Are samples copies of training items?

The distance d(s) from a sample to its nearest training item means nothing by itself: in a dense or simple
data set every honest new item lies near an old one. Held-out items tell how near. After exact duplicates of
training items and of one another are taken out of the held-out items, and the H distances of the rest are sorted,
the copy threshold is their j-th smallest, j = max(1, ⌊q (H+1)⌋), q = 1 %. A fresh item of the same law falls below it
with probability

    j / (H + 1)    exactly, for any law, as all H + 1 ranks are equally likely               (1)

(the argument of conformal prediction, Vovk et al. 2005). For the one threshold at hand, that share is
Beta(j, H+1−j) distributed, which gives (1) its standard error. More samples below than (1) are copies, or
an extract of the data that is too dense. Distances are Euclidean in the feature space given; in pixels,
blurred or empty pictures lie nearer to everything, so look at the pairs that the table names.

Where fewer held-out items than `FEWEST` are left, distances of training items to the rest of training
stand in for theirs. The rows of both metrics here are such distances, (n, 1): one search serves both.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from kuosan.evaluation.base import Better, Estimate, Metric
from kuosan.evaluation.estimates import nearest, share_stderr

QUANTILE = 0.01
FEWEST = 20


@dataclass(frozen=True)
class Honest:
    """Distances to training, (h, 1), of items that are no copies, and whose they are."""

    distances: Float[Tensor, "h 1"]
    source: str


def honest_distances(training: Float[Tensor, "t d"], heldout: Float[Tensor, "h d"]) -> Honest:
    """Distances of held-out items to training (of training items, if few), exact duplicates taken out."""
    once = heldout[first_of_each(heldout)]
    found = nearest(once, training)[1] if len(once) else torch.zeros(0, dtype=torch.float64)
    total, source = len(heldout), "held-out items"
    if int((found > 0).sum()) < FEWEST and len(training) > 1:
        found, source = nearest(training, training, exclude_self=True)[1], "training items (each to the rest)"
        total = len(training)
    distinct = found[found > 0]
    doubles = total - len(distinct)
    source = f"{len(distinct)} {source}" + (f", {doubles} exact duplicates taken out" if doubles else "")
    return Honest(distinct[:, None], source)


def first_of_each(rows: Float[Tensor, "n d"]) -> Int[Tensor, " k"]:
    """The first of every set of equal rows."""
    if not len(rows):
        return torch.zeros(0, dtype=torch.int64)
    _, group = torch.unique(rows, dim=0, return_inverse=True)
    number = torch.arange(len(rows))
    first = torch.full((int(group.max()) + 1,), len(rows)).scatter_reduce(0, group, number, "amin")
    return first.sort().values


@dataclass(frozen=True)
class Calibration:
    """The copy threshold and the share of honest items expected below it, eq. (1)."""

    threshold: float
    expected: float
    expected_stderr: float


def calibrate(honest: Float[Tensor, "h 1"]) -> Calibration:
    """The threshold from honest distances. Raises ValueError below `FEWEST` of them."""
    h = len(honest)
    if h < FEWEST:
        raise ValueError(f"copies: needs {FEWEST} distinct real items to learn usual distances from, got {h}")
    j = max(1, math.floor(QUANTILE * (h + 1)))
    expected = j / (h + 1)
    threshold = float(honest[:, 0].sort().values[j - 1])
    return Calibration(threshold, expected, math.sqrt(expected * (1 - expected) / (h + 2)))


@dataclass(frozen=True)
class Nearest:
    """A sample beside its nearest training item; `percentile` of honest items lie nearer to theirs."""

    sample: int
    train: int
    distance: float
    threshold: float
    percentile: float

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def nearest_table(
    index: Int[Tensor, " n"], distance: Float[Tensor, " n"], honest: Float[Tensor, "h 1"], k: int = 16
) -> tuple[Nearest, ...]:
    """The k samples nearest to training, nearest first, from what `nearest` found: the ones to look at."""
    threshold = calibrate(honest).threshold
    rows = []
    for i in torch.argsort(distance, stable=True)[:k].tolist():
        here = float(distance[i])
        percentile = 100 * float((honest < here).double().mean())
        rows.append(Nearest(i, int(index[i]), here, threshold, percentile))
    return tuple(rows)


class Copies(Metric):
    """Share of samples nearer to a training item than honest items come; its floor is eq. (1)."""

    name: ClassVar[str] = "copies"
    better: ClassVar[Better] = "lower"
    needs: ClassVar[tuple[str, ...]] = ("distances",)
    notices: ClassVar[tuple[str, ...]] = ("copies",)

    def value(self, samples: Float[Tensor, "n 1"], reference: Float[Tensor, "h 1"], **needs: Tensor) -> float:
        return float((samples < calibrate(reference).threshold).double().mean())

    def estimate(
        self, samples: Float[Tensor, "n 1"], reference: Float[Tensor, "h 1"], **needs: Tensor
    ) -> Estimate:
        usual, value = calibrate(reference), self.value(samples, reference)
        note = (
            f"share nearer to a training item than {usual.threshold:.4g}, the {QUANTILE:.0%} quantile of "
            "honest items; floor: the share expected without copying"
        )
        return Estimate(value, share_stderr(value, len(samples)), usual.expected, usual.expected_stderr, note)


class NearestDistance(Metric):
    """Mean distance to the nearest training item. Below its floor: copying; above: off the data."""

    name: ClassVar[str] = "nearest_distance"
    better: ClassVar[Better] = "higher"
    needs: ClassVar[tuple[str, ...]] = ("distances",)
    notices: ClassVar[tuple[str, ...]] = ("copies",)

    def value(self, samples: Float[Tensor, "n 1"], reference: Float[Tensor, "h 1"], **needs: Tensor) -> float:
        return float(samples.double().mean())

    def estimate(
        self, samples: Float[Tensor, "n 1"], reference: Float[Tensor, "h 1"], **needs: Tensor
    ) -> Estimate:
        (value, stderr), (floor, floor_stderr) = (
            (float(rows.double().mean()), float(rows.double().std() / math.sqrt(len(rows))))
            for rows in (samples, reference)
        )
        return Estimate(
            value, stderr, floor, floor_stderr, "below the floor is copying, above it off the data"
        )
