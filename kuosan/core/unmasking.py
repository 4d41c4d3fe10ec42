"""The unmasking schedule: how many tokens each step reveals, a control sequence with an exact optimum.

A sampler goes through the L positions of a state in an order that does not depend on what it writes. Let W(n, m) be the
expected -log q of tokens n … m - 1 of the order, added up, each predicted from the first n alone. A sampler whose steps
reveal up to 0 = n_0 < … < n_K = L tokens gives data the expected code length

    C(n_0, …, n_K) = Σ_k W(n_k, n_{k+1}),                                                       (1)

since the tokens of a step are predicted from those before it, and none from its neighbours in the step. Given the
order, that is -log of the sampler's probability of the data; what exceeds the cost of one token per step is what
parallel steps lose, and the least C is the least divergence of the data's law from the sampler's over data and orders.
The least is found exactly by dynamic programming over the counts at which W was measured,

    F_{k+1}(m) = min_{n < m} F_k(n) + W(n, m).                                                  (2)

In a random order W(n, m) is (m - n) times what a hidden token costs when n are revealed. In one that spreads its tokens
(`solvers.unmasking.Spaced`) the first after n are further from what is revealed than the last, and counts at which the
gaps are even are worth more than those beside them: W is not a curve but a table.
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
    """W at measured counts.

    Args:
        levels: counts at which it was measured, rising, from 0 to L.
        nats: W from each of them but the last to every one above it, in nats per state.
        order: name of the solver whose order it is of.
    """

    levels: tuple[int, ...]
    nats: tuple[tuple[float, ...], ...]
    order: str = "spaced"

    def __post_init__(self) -> None:
        levels = torch.tensor(self.levels)
        if len(levels) < 2 or levels[0] != 0 or bool((levels.diff() <= 0).any()):
            raise ValueError("an unmasking profile needs counts that rise from 0 to the length")
        if [len(row) for row in self.nats] != list(range(len(levels) - 1, 0, -1)):
            raise ValueError("an unmasking profile needs a value from every count to every one above it")
        values = torch.tensor([value for row in self.nats for value in row], dtype=torch.float64)
        if not bool((torch.isfinite(values) & (values >= 0)).all()):
            raise ValueError("the values of an unmasking profile are finite and not negative")

    @property
    def length(self) -> int:
        """L, tokens of a state."""
        return self.levels[-1]

    def table(self) -> Float64[Tensor, "k k+1"]:
        """W(levels[i], levels[j]), infinite where j ≤ i."""
        found = torch.full((len(self.nats), len(self.levels)), torch.inf, dtype=torch.float64)
        for i, row in enumerate(self.nats):
            found[i, i + 1 :] = torch.tensor(row, dtype=torch.float64)
        return found

    def per_token(self) -> Float64[Tensor, " k"]:
        """What a token costs from each count to the next."""
        return self.table().diagonal(1) / torch.tensor(self.levels).diff()

    def cost(self, counts: Int64[Tensor, " K+1"]) -> float:
        """Eq. 1 in nats per state; ValueError where a count was not measured."""
        checked(counts, self.length)
        levels = torch.tensor(self.levels)
        at = torch.searchsorted(levels, counts)
        if not torch.equal(levels[at], counts):
            raise ValueError(
                f"this unmasking profile was measured at {list(self.levels)}, not at {counts.tolist()}"
            )
        return float(self.table()[at[:-1], at[1:]].sum())

    def counts(self, steps: int) -> Int64[Tensor, " K+1"]:
        """The counts of this many steps with the least cost, by eq. 2; where fewer counts were measured, even ones.

        Raises:
            ValueError: there are fewer tokens than steps, or no step.
        """
        _check_steps(self.length, steps)
        if steps > len(self.nats):
            return linear_counts(self.length, steps)
        table, best = self.table(), torch.full((len(self.levels),), torch.inf, dtype=torch.float64)
        best[0] = 0.0
        origins = []
        for _ in range(steps):
            best, origin = (best[:-1, None] + table).min(0)
            origins.append(origin)
        path = [len(self.levels) - 1]
        for origin in reversed(origins):
            path.append(int(origin[path[-1]]))
        return torch.tensor(self.levels)[path[::-1]]

    def to_json(self) -> dict[str, Any]:
        """What `of_json` reads."""
        return {"order": self.order, "levels": list(self.levels), "nats": [list(row) for row in self.nats]}

    @classmethod
    def of_json(cls, tree: Mapping[str, Any]) -> UnmaskingProfile:
        """From `to_json`; KeyError, TypeError or ValueError where it is none."""
        nats = tuple(tuple(map(float, row)) for row in tree["nats"])
        return cls(tuple(map(int, tree["levels"])), nats, str(tree["order"]))


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
