"""A model's unmasking profile, measured: what a hidden token costs by how many are revealed.

For held-out rows and a count n, n positions of each row are revealed at random and the rest read off the posterior,

    D(n) = E[ mean over hidden i of -log q(x_i | x_t) ],                                        (1)

whose standard error over rows is kept with it. Every row keeps one order of its positions for all counts, so that what
a row has of its own is in all values alike and their differences, which decide the schedule, are less noisy than they.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from kuosan.core.random import Seeds
from kuosan.core.shapes import as_time
from kuosan.core.unmasking import UnmaskingProfile, times_of_shares
from kuosan.denoisers.base import Denoiser
from kuosan.processes.discrete import Masked
from kuosan.solvers.unmasking import log_probabilities

LEVELS = 17
_LEAST = math.log(1e-30)  # of a log-probability, as in the bound


def stock_levels(length: int, number: int = LEVELS) -> tuple[int, ...]:
    """Counts from 0 to L - 1, denser where little is known and D falls the fastest."""
    parts = torch.linspace(0, 1, number, dtype=torch.float64).square()
    return tuple((parts * (length - 1)).round().long().unique().tolist())


def measure_profile(
    denoiser: Denoiser,
    x: Int64[Tensor, "n L"],
    seeds: Seeds,
    levels: Sequence[int] | None = None,
    *,
    batch: int = 64,
    **cond: Tensor,
) -> UnmaskingProfile:
    """Eq. 1 at each of the counts ``levels``, `stock_levels` unless given, in one call per count and batch.

    Args:
        denoiser: of a masked process whose positions share one survival curve.
        x: held-out data, two rows or more. seeds: one per row. cond: conditions of the rows.

    Raises:
        TypeError: the process is another. ValueError: fewer than two rows.
    """
    levels = stock_levels(x.shape[1]) if levels is None else levels
    return profile_of(hidden_costs(denoiser, x, seeds, levels, batch=batch, **cond), levels, x.shape[1])


def profile_of(costs: Float64[Tensor, "n k"], levels: Sequence[int], length: int) -> UnmaskingProfile:
    """The profile of what each row's hidden tokens cost; ValueError where there are fewer than two rows."""
    if len(costs) < 2:
        raise ValueError("an unmasking profile needs two rows or more, for its standard errors")
    errors = costs.std(0) / len(costs) ** 0.5
    return UnmaskingProfile(
        length, tuple(map(int, levels)), tuple(costs.mean(0).tolist()), tuple(errors.tolist())
    )


@torch.no_grad()
def hidden_costs(
    denoiser: Denoiser,
    x: Int64[Tensor, "n L"],
    seeds: Seeds,
    levels: Sequence[int],
    *,
    batch: int = 64,
    **cond: Tensor,
) -> Float64[Tensor, "n k"]:
    """The mean in eq. 1 of every row at each of the counts ``levels``, nats per hidden token.

    Args and TypeError as of `measure_profile`; one row is enough.
    """
    process = denoiser.process
    if not isinstance(process, Masked) or process.keep_at(as_time(0.5, 1), x[:1]).unique().numel() != 1:
        raise TypeError(
            "an unmasking profile is that of masks in random order: of Masked with one curve for all"
        )
    rows, length = x.shape
    order = seeds.fold("order").uniform(x.double()).argsort(1).argsort(1)
    found = torch.empty(rows, len(levels), dtype=torch.float64)
    for k, n in enumerate(levels):
        t = times_of_shares(torch.tensor([n / length], dtype=torch.float64), process.survival(x))
        for low in range(0, rows, batch):
            part = slice(low, low + batch)
            hidden = order[part] >= n
            x_t = torch.where(hidden, process.size, x[part])
            q = denoiser(x_t, t.expand(len(x_t)), **{name: value[part] for name, value in cond.items()})
            nats = -log_probabilities(q).gather(-1, x[part][..., None])[..., 0].clamp_min(_LEAST)
            found[part, k] = ((nats * hidden).sum(1) / (length - n)).cpu().double()
    return found
