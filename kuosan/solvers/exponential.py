"""Exponential integrators over the half log-SNR ℓ = λ/2 = log(α/σ), with the data estimate.

    x_s = (σ_s/σ_t) x_t + α_s ∫_{ℓ_t}^{ℓ_s} e^{-(ℓ_s - ℓ)} x̂(ℓ) dℓ        exact (Lu et al. 2022b, eq. 8)   (1)

DDIM holds x̂ constant; DPM-Solver++ and UniPC interpolate it through earlier estimates; UniPC interpolates
once more through the newest one, a correction for free (Zhao et al. 2023). Order two keeps the authors'
own weight, ½ (1 - e^{-h}) for DPM-Solver++(2M) and B(h)/2 for UniPC, so that results equal other
implementations'. Order three is the exact integral of the parabola: the widespread formula for
DPM-Solver++(3M) halves the weight of the second divided difference and is of order two.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from kuosan.core.curves import Curve
from kuosan.core.schedules import Level, Schedule
from kuosan.processes.additive import AdditiveProcess
from kuosan.processes.base import Process
from kuosan.processes.gaussian import GaussianProcess, bridge_terms
from kuosan.solvers.multistep import Multistep, Table, history, lagrange_weights, orders_of


def _pairs(levels: Level) -> tuple[Level, Level]:
    """The levels at the start and at the end of each step."""
    return Level(*(x[:-1] for x in levels)), Level(*(x[1:] for x in levels))


def _kernel_weights(ell: Tensor, points: Tensor, start: Tensor, stop: Tensor) -> Tensor:
    """Eq. 1's integral without α_s."""
    return lagrange_weights(points, start, stop, kernel=lambda u: (u - stop).exp())


@dataclass(frozen=True)
class DDIM(Multistep):
    """First order, with any churn η (Song et al. 2021, eq. 12): 0 deterministic, 1 ancestral.

    Args:
        eta: a number, or a curve of it along time.
    """

    eta: float | Curve = 0.0

    @property
    def draws(self) -> bool:  # type: ignore[override]
        return isinstance(self.eta, Curve) or self.eta != 0

    @property
    def needs(self) -> type[Process]:  # type: ignore[override]
        return GaussianProcess if self.draws else AdditiveProcess  # what it draws is Gaussian

    def table(self, schedule: Schedule, levels: Level) -> Table:
        t, s = _pairs(levels)
        eta = self.eta(t.t) if isinstance(self.eta, Curve) else torch.full_like(t.t, self.eta)
        _, _, variance = bridge_terms(t, s)
        noise = eta * variance.clamp_min(0).sqrt()  # upwards there is no bridge, and no noise without churn
        state = (s.sigma.square() - noise.square()).clamp_min(0).sqrt() / t.sigma
        return Table(state, (s.alpha - t.alpha * state)[:, None], noise if self.draws else None)


@dataclass(frozen=True)
class DPMSolverPP(Multistep):
    """DPM-Solver++ (multistep), order 1 to 3."""

    steps_back: int = 2

    @property
    def order(self) -> int:  # type: ignore[override]
        return self.steps_back

    def table(self, schedule: Schedule, levels: Level) -> Table:
        ell = levels.log_snr / 2
        return Table(*predictor(levels, ell, orders_of(self.steps_back, ell, taper=True), self.steps_back))


@dataclass(frozen=True)
class UniPC(Multistep):
    """Unified predictor-corrector, order 1 to 3 (of the predictor; the corrected state has one more).

    The corrector redoes the step that led to x_t with the estimate m_0 that was made there. Both share c and
    differ in their weights of the estimates alone, so the corrected state is x_t + Σ δ_j m_j, and the next
    prediction from it

        x_s = c (x_t + Σ_j δ_j m_j) + Σ_j b_j m_j

    is again a linear multistep with one more estimate: the corrected state itself is never needed.

    Args:
        variant: B(h), ``bh1`` (h) or ``bh2`` (e^h - 1), the authors' choice for few steps.
    """

    steps_back: int = 3
    variant: Literal["bh1", "bh2"] = "bh2"

    @property
    def order(self) -> int:  # type: ignore[override]
        return self.steps_back + 1

    def table(self, schedule: Schedule, levels: Level) -> Table:
        ell = levels.log_snr / 2
        orders = orders_of(self.steps_back, ell, taper=True)
        state, terms = predictor(levels, ell, orders, self.steps_back, self.variant)
        correction = corrector(levels, ell, orders, self.steps_back, self.variant)
        correction[1:, 1:] -= terms[:-1]
        correction[0] = 0
        return Table(state, state[:, None] * correction + nn.functional.pad(terms, (0, 1)))


@dataclass(frozen=True)
class SDESolverPP(Multistep):
    """SDE-DPM-Solver++(2M) with any churn (Lu et al. 2022b, sec. 5; with a factor on the noise as in Xue et
    al. 2023, eq. 7): η = 0 is the ODE, 1 the reverse SDE. Weak order two.

        x_s = (σ_s/σ_t) e^{-ηh} x_t + α_s (1 - e^{-(1+η)h}) (m_0 + ½ D) + σ_s √(1 - e^{-2ηh}) z
    """

    eta: float | Curve = 1.0
    steps_back: int = field(default=2, init=False)
    needs: ClassVar[type[Process]] = GaussianProcess
    order: ClassVar[int] = 2
    draws: ClassVar[bool] = True

    def table(self, schedule: Schedule, levels: Level) -> Table:
        t, s = _pairs(levels)
        ell = levels.log_snr / 2
        h = ell[1:] - ell[:-1]
        eta = self.eta(t.t) if isinstance(self.eta, Curve) else torch.full_like(t.t, self.eta)
        # At σ_s = 0, h is infinite: what is left is α_s m_0, whatever the churn.
        decay = torch.where(torch.isfinite(h), (-eta * h).exp(), torch.zeros_like(h))
        gain = s.alpha * torch.where(torch.isfinite(h), -torch.expm1(-(1 + eta) * h), torch.ones_like(h))
        terms = torch.stack([gain, torch.zeros_like(gain)], 1)
        steps = [i for i, k in enumerate(orders_of(2, ell)) if k == 2]
        if steps:
            slope = gain[steps] / 2 * h[steps] / h[[i - 1 for i in steps]]
            terms[steps] += torch.stack([slope, -slope], 1)
        noise = s.sigma * (1 - decay.square()).clamp_min(0).sqrt()
        return Table(s.sigma / t.sigma * decay, terms, noise)


def predictor(
    levels: Level, ell: Tensor, orders: list[int], k: int, variant: str = "bh2"
) -> tuple[Tensor, Tensor]:
    """c (n,) and b_j (n, k) of the multistep module's eq. 1 with the data interpolated through ``orders`` points."""
    t, s = _pairs(levels)
    state = s.sigma / t.sigma
    first = s.alpha - t.alpha * state
    terms = torch.zeros(len(first), k, dtype=first.dtype)
    terms[:, 0] = first
    for order in {o for o in orders if o > 1}:
        steps = [i for i, o in enumerate(orders) if o == order]
        start, stop = ell[steps], ell[[i + 1 for i in steps]]
        points = history(ell, steps, order)
        if order == 2:
            h = stop - start
            half = (first[steps] if variant == "bh2" else s.alpha[steps] * h) / 2
            slope = half * h / (start - points[:, 1])
            terms[steps, 0] += slope
            terms[steps, 1] -= slope
        else:
            exact = s.alpha[steps][:, None] * _kernel_weights(ell, points, start, stop)
            terms[steps, :order] = exact
    return state, terms


def corrector(levels: Level, ell: Tensor, orders: list[int], k: int, variant: str = "bh2") -> Tensor:
    """b'_j (n, k + 1): the weights, newest estimate first, of the step that led to point i when it is redone
    with the estimate made there. Row i has the order of step i - 1; row 0 is zero."""
    t, s = _pairs(levels)
    first = s.alpha - t.alpha * s.sigma / t.sigma
    terms = torch.zeros(len(first), k + 1, dtype=first.dtype)
    terms[1:, 1] = first[:-1]
    finite = torch.isfinite(ell).tolist()
    for order in set(orders[:-1]):
        rows = [i for i in range(1, len(first)) if orders[i - 1] == order and finite[i - 1] and finite[i]]
        if not rows:
            continue
        before = [i - 1 for i in rows]
        if order == 1:
            h = ell[rows] - ell[before]
            half = (first[before] if variant == "bh2" else s.alpha[before] * h) / 2
            terms[rows, 0] += half
            terms[rows, 1] -= half
        else:
            exact = _kernel_weights(ell, history(ell, rows, order + 1), ell[before], ell[rows])
            terms[rows, : order + 1] = s.alpha[before][:, None] * exact
    return terms
