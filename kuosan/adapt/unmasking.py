"""A model's unmasking profile, measured: what tokens cost that are written together, by how many are before them.

Every held-out row has one order of its positions, drawn as the sampler draws it. For a count n its first n tokens are
revealed and the rest read off the posterior in one call, which gives

    W(n, m) = E[ Σ_{n ≤ r < m} -log q(x_(r) | x_(0), …, x_(n-1)) ],      x_(r) the r-th of the order,      (1)

for all m at once. What a row has of its own is in all values alike, so their differences, which decide the schedule,
are less noisy than they.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from kuosan.core.random import Seeds
from kuosan.core.shapes import as_time
from kuosan.core.unmasking import UnmaskingProfile, linear_counts, times_of_shares
from kuosan.denoisers.base import Denoiser
from kuosan.processes.discrete import Masked
from kuosan.solvers.unmasking import ORDERS, log_probabilities

LEVELS = 32
FAR = 64  # tokens that are so many at once are not like the first
_LEAST = math.log(1e-30)  # of a log-probability, as in the bound


def stock_levels(length: int, number: int = LEVELS) -> tuple[int, ...]:
    """Counts from 0 to L, even: those of every even schedule whose steps divide ``number`` are among them. Where the
    first of them is far from 0 also the powers of two before it: the first tokens are those that cost most."""
    even = linear_counts(length, min(number, length)).tolist()
    return (0, *(1 << k for k in range((even[1] - 1).bit_length()) if even[1] > FAR), *even[1:])


def measure_profile(
    denoiser: Denoiser,
    x: Int64[Tensor, "n L"],
    seeds: Seeds,
    levels: Sequence[int] | None = None,
    *,
    order: str = "spaced",
    batch: int = 64,
    **cond: Tensor,
) -> UnmaskingProfile:
    """The mean of `costs` at the counts ``levels``, `stock_levels` unless given; args and TypeError as there."""
    levels = stock_levels(x.shape[1]) if levels is None else levels
    return profile_of(costs(denoiser, x, seeds, levels, order=order, batch=batch, **cond), levels, order)


def profile_of(found: Float64[Tensor, "n k k+1"], levels: Sequence[int], order: str) -> UnmaskingProfile:
    """The profile of rows whose tokens cost ``found`` in this order."""
    mean = found.mean(0)
    rows = tuple(tuple(mean[i, i + 1 :].tolist()) for i in range(len(levels) - 1))
    return UnmaskingProfile(tuple(map(int, levels)), rows, order)


@torch.no_grad()
def costs(
    denoiser: Denoiser,
    x: Int64[Tensor, "n L"],
    seeds: Seeds,
    levels: Sequence[int],
    *,
    order: str = "spaced",
    batch: int = 64,
    **cond: Tensor,
) -> Float64[Tensor, "n k k+1"]:
    """W of eq. 1 for every row, from each of the ``levels`` but the last to each of them, in nats; 0 downwards.

    One call per level and batch.

    Args:
        denoiser: of a masked process whose positions share one survival curve.
        x: held-out data. seeds: one per row. levels: rising, from 0 to L. cond: conditions of the rows.
        order: the name of a solver in `solvers.unmasking.ORDERS`.

    Raises:
        TypeError: the process is another.
    """
    process = denoiser.process
    if not isinstance(process, Masked) or process.keep_at(as_time(0.5, 1), x[:1]).unique().numel() != 1:
        raise TypeError(
            "an unmasking profile is of a known order: of Masked with one curve for all positions"
        )
    rows, length = x.shape
    key = ORDERS[order](torch.ones_like(x, dtype=torch.bool), seeds.fold("order"))
    places = key.argsort(1)
    rank, ends = places.argsort(1), torch.tensor(levels)
    found = torch.zeros(rows, len(levels) - 1, len(levels), dtype=torch.float64)
    for k, n in enumerate(levels[:-1]):
        t = times_of_shares(torch.tensor([n / length], dtype=torch.float64), process.survival(x))
        for low in range(0, rows, batch):
            part = slice(low, low + batch)
            x_t = torch.where(rank[part] >= n, process.size, x[part])
            q = denoiser(x_t, t.expand(len(x_t)), **{name: value[part] for name, value in cond.items()})
            nats = -log_probabilities(q).gather(-1, x[part][..., None])[..., 0].clamp_min(_LEAST)
            sums = nats.cpu().double().gather(1, places[part].cpu()).cumsum(1)
            sums = torch.cat([torch.zeros(len(sums), 1, dtype=torch.float64), sums], 1)[:, ends]
            found[part, k, k + 1 :] = sums[:, k + 1 :] - sums[:, k, None]
    return found
