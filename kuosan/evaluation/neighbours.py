"""Fidelity and diversity by nearest neighbours.

Around each item of a set draw the ball that reaches its k-th nearest neighbour within that set; the union of
the balls stands for the set's support.

    precision  share of samples inside some real ball       (fidelity)     Kynkäänniemi et al. 2019, k = 3
    recall     share of real items inside some sample ball  (diversity)    same
    density    mean number of real balls that hold a sample, over k        Naeem et al. 2020, k = 5
    coverage   share of real balls that hold a sample       (diversity)    same

All four depend on n and m (balls shrink as sets grow), so read them only beside their floor. Precision and
recall are misled by single outliers with huge balls; density and coverage much less, which is why both
pairs are here.

Standard errors: the binomial one alone is too small (by up to 45 % on Gaussians), as the balls are random
too; so a jackknife over both sets in 6 groups, which for these unsmooth numbers errs to the safe side (by
1.1 to 1.8 times the true spread on Gaussians, with 20 groups up to 2.3), and for shares at least the
binomial one.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from kuosan.evaluation.base import Better, Estimate, Metric
from kuosan.evaluation.estimates import jackknife, share_stderr, thinned

MOST_ROWS = 5000  # distances between all pairs are held at once: 200 MB of float64 at this size

GROUPS = 6


class Balls:
    """Two sets, their distances, and their balls, also with some rows left out (for the jackknife)."""

    def __init__(self, x: Float[Tensor, "n d"], y: Float[Tensor, "m d"], k: int) -> None:
        self.x, self.y, self.k = x.double(), y.double(), k
        self.apart = torch.cdist(self.x, self.y)
        self._near_x, self._near_y = self._near(self.x), self._near(self.y)

    def _near(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        # A list longer than k, so that the k-th neighbour is still on it after a group of rows is left out.
        count = min(len(rows) - 1, 3 * self.k + 8)
        lists = []
        for start in range(0, len(rows), 1024):
            apart = torch.cdist(rows[start : start + 1024], rows)
            i = torch.arange(len(apart))
            apart[i, i + start] = torch.inf
            lists.append(apart.topk(count, largest=False))
        return torch.cat([p.values for p in lists]), torch.cat([p.indices for p in lists])

    def _radii(self, near: tuple[Tensor, Tensor], keep: Bool[Tensor, " n"]) -> Float[Tensor, " n"]:
        values, indices = near
        place = (keep[indices].cumsum(1) < self.k).sum(1).clamp(max=values.shape[1] - 1)
        return values.gather(1, place[:, None])[:, 0]

    def radii_x(self, keep: Bool[Tensor, " n"]) -> Float[Tensor, " n"]:
        return self._radii(self._near_x, keep)

    def radii_y(self, keep: Bool[Tensor, " m"]) -> Float[Tensor, " m"]:
        return self._radii(self._near_y, keep)

    def within(self, radii: Tensor) -> Bool[Tensor, "n m"]:
        """Whether x_i lies in a ball; `radii` is (m,) for balls around y and (n, 1) for balls around x."""
        # Sums round differently in the two distance matrices; equal distances must count as equal.
        return self.apart <= radii * (1 + 1e-7)


class _Neighbours(Metric):
    better: ClassVar[Better] = "higher"
    needs: ClassVar[tuple[str, ...]] = ("features",)
    k: ClassVar[int]
    least: ClassVar[int] = 10
    counted: ClassVar[str]  # whose items the share counts: "samples", "reference", or "" where it is no share

    @abstractmethod
    def statistic(self, balls: Balls, keep_x: Bool[Tensor, " n"], keep_y: Bool[Tensor, " m"]) -> float:
        """The number from the kept rows; x are the samples, y the reference."""

    def value(self, samples: Float[Tensor, "n d"], reference: Float[Tensor, "m d"], **needs: Tensor) -> float:
        balls = Balls(thinned(samples, MOST_ROWS), thinned(reference, MOST_ROWS), self.k)
        return self.statistic(
            balls, torch.ones(len(balls.x), dtype=torch.bool), torch.ones(len(balls.y), dtype=torch.bool)
        )

    def estimate(
        self, samples: Float[Tensor, "n d"], reference: Float[Tensor, "m d"], **needs: Tensor
    ) -> Estimate:
        balls = Balls(thinned(samples, MOST_ROWS), thinned(reference, MOST_ROWS), self.k)
        keep_x, keep_y = (torch.ones(len(rows), dtype=torch.bool) for rows in (balls.x, balls.y))
        value = self.statistic(balls, keep_x, keep_y)
        stderr = jackknife(lambda a, b: self.statistic(balls, a, b), balls.x, balls.y, GROUPS)
        if self.counted:
            stderr = max(stderr, share_stderr(value, len(balls.x if self.counted == "samples" else balls.y)))
        thin = max(len(samples), len(reference)) > MOST_ROWS
        note = f"k = {self.k}" + (f", on {MOST_ROWS} rows at most" if thin else "")
        return Estimate(value, stderr, note=note)


class Precision(_Neighbours):
    """Share of samples inside the balls of the reference."""

    name: ClassVar[str] = "precision"
    notices: ClassVar[tuple[str, ...]] = ("noise",)
    k: ClassVar[int] = 3
    counted: ClassVar[str] = "samples"

    def statistic(self, balls: Balls, keep_x: Bool[Tensor, " n"], keep_y: Bool[Tensor, " m"]) -> float:
        inside = balls.within(balls.radii_y(keep_y).masked_fill(~keep_y, -1.0))
        return float(inside.any(1)[keep_x].double().mean())


class Recall(_Neighbours):
    """Share of reference items inside the balls of the samples."""

    name: ClassVar[str] = "recall"
    notices: ClassVar[tuple[str, ...]] = ("dropped modes",)
    k: ClassVar[int] = 3
    counted: ClassVar[str] = "reference"

    def statistic(self, balls: Balls, keep_x: Bool[Tensor, " n"], keep_y: Bool[Tensor, " m"]) -> float:
        inside = balls.within(balls.radii_x(keep_x).masked_fill(~keep_x, -1.0)[:, None])
        return float(inside.any(0)[keep_y].double().mean())


class Density(_Neighbours):
    """Mean number of reference balls around a sample, over k; about 1 for equal laws, and may exceed 1."""

    name: ClassVar[str] = "density"
    notices: ClassVar[tuple[str, ...]] = ("noise",)
    k: ClassVar[int] = 5
    counted: ClassVar[str] = ""

    def statistic(self, balls: Balls, keep_x: Bool[Tensor, " n"], keep_y: Bool[Tensor, " m"]) -> float:
        inside = balls.within(balls.radii_y(keep_y).masked_fill(~keep_y, -1.0))
        return float(inside.sum(1)[keep_x].double().mean()) / self.k


class Coverage(_Neighbours):
    """Share of reference balls that hold at least one sample."""

    name: ClassVar[str] = "coverage"
    notices: ClassVar[tuple[str, ...]] = ("dropped modes", "noise")
    k: ClassVar[int] = 5
    counted: ClassVar[str] = "reference"

    def statistic(self, balls: Balls, keep_x: Bool[Tensor, " n"], keep_y: Bool[Tensor, " m"]) -> float:
        inside = balls.within(balls.radii_y(keep_y))
        return float(inside[keep_x].any(0)[keep_y].double().mean())
