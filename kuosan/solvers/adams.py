"""Adams–Bashforth methods on the noise estimate.

With y = x/α and ρ = σ/α the probability-flow ODE is dy/dρ = ε̂ (Karras et al. 2022, eq. 1; for any schedule
Zhang & Chen 2023, prop. 3), so

    x_s = (α_s/α_t) x_t + α_s ∫_{ρ_t}^{ρ_s} ε̂ dρ                                               (1)

and ε̂ is extrapolated by a polynomial through earlier estimates: in ρ (Adams–Bashforth proper, DEIS's
ρAB), in log ρ or in t (DEIS's tAB). iPNDM uses the weights of equal steps whatever the grid (Liu et al.
2022; Zhang & Chen 2023): of order two on smooth grids, and often the best at few calls.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from kuosan.core.schedules import Level, Schedule
from kuosan.solvers.multistep import Multistep, Table, history, lagrange_weights, orders_of

_EQUAL_STEPS = (
    (1.0,),
    (3 / 2, -1 / 2),
    (23 / 12, -16 / 12, 5 / 12),
    (55 / 24, -59 / 24, 37 / 24, -9 / 24),
)


@dataclass(frozen=True)
class AdamsBashforth(Multistep):
    """Polynomial in ρ through up to ``steps_back`` (1 to 4) estimates, for unequal steps."""

    estimates: ClassVar[Literal["data", "noise"]] = "noise"
    steps_back: int = 3

    @property
    def order(self) -> int:  # type: ignore[override]
        return self.steps_back

    def _abscissa(self, schedule: Schedule, rho: Tensor) -> Tensor:
        """The variable of interpolation, as a function of ρ."""
        return rho

    def table(self, schedule: Schedule, levels: Level) -> Table:
        rho, alpha = levels.rho, levels.alpha
        orders = orders_of(self.steps_back, self._abscissa(schedule, rho))
        terms = torch.zeros(len(rho) - 1, self.steps_back, dtype=rho.dtype)
        terms[:, 0] = alpha[1:] * (rho[1:] - rho[:-1])
        for order in {o for o in orders if o > 1}:
            steps = [i for i, o in enumerate(orders) if o == order]
            ends = [i + 1 for i in steps]
            terms[steps, :order] = alpha[ends][:, None] * self._weights(schedule, rho, steps, ends, order)
        return Table(alpha[1:] / alpha[:-1], terms)

    def _weights(
        self, schedule: Schedule, rho: Tensor, steps: list[int], ends: list[int], order: int
    ) -> Tensor:
        """Eq. 1's integral without α_s, per estimate (len(steps), order)."""

        def abscissa(u: Tensor) -> Tensor:
            return self._abscissa(schedule, u)

        points = history(abscissa(rho), steps, order)
        return lagrange_weights(points, rho[steps], rho[ends], abscissa=abscissa)


@dataclass(frozen=True)
class DEIS(AdamsBashforth):
    """Polynomial in log ρ (default) or in t (Zhang & Chen 2023, eq. 15)."""

    variable: Literal["log_rho", "t"] = "log_rho"

    def _abscissa(self, schedule: Schedule, rho: Tensor) -> Tensor:
        return rho.log() if self.variable == "log_rho" else schedule.time_of(-2 * rho.log())


@dataclass(frozen=True)
class IPNDM(AdamsBashforth):
    """The weights of equal steps, up to four estimates."""

    steps_back: int = 4

    @property
    def order(self) -> int:  # type: ignore[override]
        return min(self.steps_back, 2)

    def _weights(
        self, schedule: Schedule, rho: Tensor, steps: list[int], ends: list[int], order: int
    ) -> Tensor:
        return (rho[ends] - rho[steps])[:, None] * torch.tensor(_EQUAL_STEPS[order - 1], dtype=rho.dtype)
