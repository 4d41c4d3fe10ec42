"""The unmasking schedule: how many tokens each step reveals, a control sequence with an exact optimum.

Let D(n) be the expected -log q(x_i | n revealed tokens) of a hidden token, the revealed ones chosen uniformly. A
sampler whose steps reveal up to 0 = n_0 < … < n_K = L tokens, those of a step in parallel, gives data the expected code
length

    C(n_0, …, n_K) = Σ_k (n_{k+1} - n_k) D(n_k),                                                (1)

since each of the n_{k+1} - n_k tokens of a step is predicted from the n_k before it, and none from its neighbours in
the step. Given the order, that is -log of the sampler's probability of the data; what exceeds Σ_n D(n), the cost of one
token per step, is what parallel steps lose, and the least C is the least divergence of the data's law from the
sampler's over data and orders. It is a Riemann sum from the left of a falling curve, so where D falls steeply the steps
must be small. The least is found exactly by dynamic programming,

    F_{k+1}(m) = min_{n < m} F_k(n) + (m - n) D(n).                                             (2)

Measured values of D scatter; what is known beforehand is that more context never hurts on average, so they are made
non-increasing by isotonic regression, weighted by their errors, and are linear between the counts that were measured.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from kuosan.core.shapes import Time

_HALVINGS = 60  # of an interval of times: below the spacing of float64


@dataclass(frozen=True)
class UnmaskingProfile:
    """D at measured counts.

    Args:
        length: L, tokens of a state.
        revealed: counts at which it was measured, rising, from 0 to L - 1 at most.
        nats: D there, per token.
        errors: their standard errors, all positive, or none.
    """

    length: int
    revealed: tuple[int, ...]
    nats: tuple[float, ...]
    errors: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        counts = torch.tensor(self.revealed)
        if len(counts) < 1 or bool((counts.diff() <= 0).any()) or counts[0] < 0 or counts[-1] >= self.length:
            raise ValueError(f"an unmasking profile needs counts that rise within 0 … {self.length - 1}")
        if len(self.nats) != len(counts) or len(self.errors) not in (0, len(counts)):
            raise ValueError("an unmasking profile needs as many values, and errors if any, as counts")
        values = torch.tensor([*self.nats, *self.errors], dtype=torch.float64)
        if not bool((torch.isfinite(values) & (values >= 0)).all()):
            raise ValueError("the values and errors of an unmasking profile are finite and not negative")

    def curve(self) -> Float64[Tensor, " L"]:
        """D(0) … D(L - 1): non-increasing, linear between measured counts, constant beyond them."""
        from sklearn.isotonic import isotonic_regression

        weights = None
        if self.errors and min(self.errors) > 0:
            weights = [error**-2 for error in self.errors]
        values = isotonic_regression(list(self.nats), sample_weight=weights, increasing=False)
        knots, values = torch.tensor(self.revealed).double(), torch.tensor(list(values), dtype=torch.float64)
        n = torch.arange(self.length, dtype=torch.float64).clamp(knots[0], knots[-1])
        if len(knots) == 1:
            return values.expand(self.length).clone()
        right = torch.searchsorted(knots, n).clamp(1, len(knots) - 1)
        part = (n - knots[right - 1]) / (knots[right] - knots[right - 1])
        return values[right - 1] + part * (values[right] - values[right - 1])

    def cost(self, counts: Int64[Tensor, " K+1"]) -> float:
        """Eq. 1 in nats per state."""
        checked(counts, self.length)
        return float(counts.diff().double() @ self.curve()[counts[:-1]])

    def counts(self, steps: int) -> Int64[Tensor, " K+1"]:
        """The counts of this many steps with the least cost, by eq. 2 in O(K L²).

        Raises:
            ValueError: there are fewer tokens than steps, or no step.
        """
        _check_steps(self.length, steps)
        n = torch.arange(self.length + 1, dtype=torch.float64)
        reached = n[:-1, None] < n[None, :]
        price = torch.where(reached, (n[None, :] - n[:-1, None]) * self.curve()[:, None], torch.inf)
        best = torch.where(n == 0, 0.0, torch.inf).double()
        origins = []
        for _ in range(steps):
            best, origin = (best[:-1, None] + price).min(0)
            origins.append(origin)
        counts = [self.length]
        for origin in reversed(origins):
            counts.append(int(origin[counts[-1]]))
        return torch.tensor(counts[::-1])

    def to_json(self) -> dict[str, Any]:
        """What `of_json` reads."""
        return {
            "length": self.length,
            "revealed": list(self.revealed),
            "nats": list(self.nats),
            "errors": list(self.errors),
        }

    @classmethod
    def of_json(cls, tree: Mapping[str, Any]) -> UnmaskingProfile:
        """From `to_json`; KeyError, TypeError or ValueError where it is none."""
        values = (tuple(map(float, tree[name])) for name in ("nats", "errors"))
        return cls(int(tree["length"]), tuple(map(int, tree["revealed"])), *values)


def _check_steps(length: int, steps: int) -> None:
    if not 1 <= steps <= length:
        raise ValueError(f"{length} tokens are revealed in 1 to {length} steps, not in {steps}")


def checked(counts: Int64[Tensor, " K+1"], length: int) -> Int64[Tensor, " K+1"]:
    """The counts; ValueError where they do not rise from 0 to ``length``."""
    if len(counts) < 2 or counts[0] != 0 or counts[-1] != length or bool((counts.diff() <= 0).any()):
        raise ValueError(f"counts of revealed tokens rise from 0 to {length}, not {counts.tolist()}")
    return counts


def linear_counts(length: int, steps: int) -> Int64[Tensor, " K+1"]:
    """As many tokens in every step, to rounding; ValueError as `UnmaskingProfile.counts`."""
    _check_steps(length, steps)
    return (2 * length * torch.arange(steps + 1) + steps) // (2 * steps)


def cosine_counts(length: int, steps: int) -> Int64[Tensor, " K+1"]:
    """L (1 - cos(π k/2K)), few at first (MaskGIT, Chang et al. 2022), but one at least; ValueError as
    `UnmaskingProfile.counts`."""
    _check_steps(length, steps)
    k = torch.arange(steps + 1)
    wanted = (length * (1 - torch.cos(torch.pi / 2 * k.double() / steps)) + 0.5).floor().long()
    wanted[-1] = length
    # One a step: m_k - k must not fall. Few are moved, those at the start, where the cosine is flat.
    rising = (wanted - k).cummax(0).values + k
    return torch.minimum(rising, length - steps + k)


def times_of_shares(shares: Float64[Tensor, " n"], survival: Callable[[Time], Time]) -> Float64[Tensor, " n"]:
    """Times at which ``survival``, falling from 1 to 0, is ``shares``: 1 where they are 0 and 0 where they are 1, by
    bisection in between."""
    low, high = torch.zeros_like(shares), torch.ones_like(shares)
    with torch.no_grad():
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            above = survival(middle) > shares
            low, high = torch.where(above, middle, low), torch.where(above, high, middle)
    ends = torch.where(shares <= 0, 1.0, 0.0).to(shares)
    return torch.where((shares <= 0) | (shares >= 1), ends, (low + high) / 2)


def times_of_counts(
    counts: Int64[Tensor, " K+1"], survival: Callable[[Time], Time]
) -> Float64[Tensor, " K+1"]:
    """The time grid, falling from 1 to 0, along which the share n_k/L of tokens survives: the solvers of
    `solvers.unmasking` reveal exactly these counts on it.

    Args:
        counts: rising from 0 to L.
        survival: κ, or its mean over positions where they have curves of their own.
    """
    checked(counts, int(counts[-1]))
    return times_of_shares(counts.double() / counts[-1], survival)


def unmasking_grid(
    name: str, steps: int, survival: Callable[[Time], Time], profile: UnmaskingProfile | None = None
) -> Float64[Tensor, " K+1"]:
    """A time grid of masked tokens by its name, falling from 1 to 0.

    ``uniform`` is even in t; ``linear`` is even in the share of revealed tokens and ``cosine`` reveals few at first,
    for any length and any number of steps; ``optimal`` has the least cost of the profile, for 1 to L steps.

    Args:
        survival: as of `times_of_counts`.

    Raises:
        ValueError: there is no such grid, no step, or no profile to make it of.
    """
    if steps < 1:
        raise ValueError(f"a grid needs one step or more, not {steps}")
    part = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
    match name:
        case "uniform":
            return part.flip(0)
        case "linear":
            return times_of_shares(part, survival)
        case "cosine":
            shares = 1 - torch.cos(torch.pi / 2 * part)
            shares[-1] = 1.0
            return times_of_shares(shares, survival)
        case "optimal" if profile is not None:
            return times_of_counts(profile.counts(steps), survival)
        case "optimal":
            raise ValueError(
                "the grid 'optimal' needs an unmasking profile: choose uniform, linear or cosine"
            )
    raise ValueError(f"there is no grid {name!r} of tokens: choose uniform, linear, cosine or optimal")
