"""Small statistics that several metrics share: orders that ignore order, jackknives, shares, distances.

Group jackknife for a function θ of two independent sets (Efron & Stein 1981, in G groups per set):

    var θ ≈ Σ_sets (G−1)/G Σ_g (θ_{−g} − mean θ_{−·})²                                                 (1)

Share of k hits in n: the plain √(p(1−p)/n) is 0 at p = 0 and p = 1, which nobody should believe after ten
trials. The shares here use p̃ = (k+1)/(n+2) (the rule of succession) under the root.                    (2)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


def shuffled(rows: Float[Tensor, "n d"], seed: int = 0) -> Int[Tensor, " n"]:
    """A random-looking order that depends on the set of rows only, never on the order they came in.

    The rows are sorted along one fixed random direction and then permuted by a generator of their own, so
    a metric that has to split or thin its rows stays invariant under permutations of its input.
    """
    generator = torch.Generator().manual_seed(seed)
    direction = torch.randn(rows.shape[1], generator=generator, dtype=torch.float64)
    order = torch.argsort(rows.detach().cpu().double() @ direction, stable=True)
    return order[torch.randperm(len(rows), generator=generator)]


def thinned(rows: Float[Tensor, "n d"], most: int) -> Float[Tensor, "k d"]:
    """At most `most` rows, chosen whatever the order of the rows."""
    return rows if len(rows) <= most else rows[shuffled(rows)[:most]]


def groups(rows: Float[Tensor, "n d"], count: int) -> Iterator[Bool[Tensor, " n"]]:
    """Masks of the rows that stay when group g of `count` is deleted."""
    order = shuffled(rows)
    for g in range(min(count, len(rows))):
        keep = torch.ones(len(rows), dtype=torch.bool)
        keep[order[g::count]] = False
        yield keep


def jackknife(
    statistic: Callable[[Tensor, Tensor], float],
    x: Float[Tensor, "n d"],
    y: Float[Tensor, "m d"],
    count: int,
) -> float:
    """Standard error of statistic(keep_x, keep_y), a function of two masks, by eq. (1)."""
    all_x, all_y = torch.ones(len(x), dtype=torch.bool), torch.ones(len(y), dtype=torch.bool)
    variance = 0.0
    for values in (
        [statistic(keep, all_y) for keep in groups(x, count)],
        [statistic(all_x, keep) for keep in groups(y, count)],
    ):
        mean = sum(values) / len(values)
        variance += (len(values) - 1) / len(values) * sum((v - mean) ** 2 for v in values)
    return math.sqrt(variance)


def share_stderr(share: float, n: int) -> float:
    """Standard error of a share of n independent trials, eq. (2); positive also at 0 and at 1."""
    smooth = (share * n + 1) / (n + 2)
    return math.sqrt(smooth * (1 - smooth) / n)


def nearest(
    x: Float[Tensor, "n d"], y: Float[Tensor, "m d"], *, exclude_self: bool = False, chunk: int = 1024
) -> tuple[Int[Tensor, " n"], Float[Tensor, " n"]]:
    """Index in y of each x's nearest row, and their Euclidean distance; `exclude_self` is for x is y.

    The search uses |x|² − 2xy + |y|², fast but blurred by rounding; the best few rows that it finds are
    compared again by subtraction, so equal rows have distance exactly 0.
    """
    indices, distances = [], []
    for start in range(0, len(x), chunk):
        here = x[start : start + chunk]
        apart = torch.cdist(here, y)
        if exclude_self:
            rows = torch.arange(len(here))
            apart[rows, rows + start] = math.inf
        few = apart.topk(min(4, len(y) - exclude_self), largest=False).indices
        exact = torch.stack([(here.double() - y[column].double()).norm(dim=1) for column in few.T], 1)
        best = exact.min(1)
        distances.append(best.values)
        indices.append(few.gather(1, best.indices[:, None])[:, 0])
    return torch.cat(indices), torch.cat(distances)
