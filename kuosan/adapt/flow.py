"""A denoiser's probability flow in the one form that all schedules share.

With y = x_t/α and ρ = σ/α, the flow of every additive process is

    dy/dρ = (y - x̂(y, ρ))/ρ                       (Karras et al. 2022, eq. 1)             (1)

whatever its schedule. A control sequence is learned in these coordinates, in log ρ, and holds for the schedule that
the model was trained on once times are put back for log ρ.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from kuosan.core.curves import Curve
from kuosan.core.random import Seeds
from kuosan.core.schedules import Schedule
from kuosan.core.shapes import Time, at
from kuosan.denoisers.base import Denoiser
from kuosan.guidance.classifier_free import ClassifierFree
from kuosan.processes.additive import AdditiveProcess
from kuosan.solvers.far import Far, kinds

NOISIEST = 1e4  # ρ from which a schedule is taken to end in noise alone
FEW = 8  # examples to a combination of conditions, at the least, for a call that these share


class Given(Curve):
    """Weights that are given for the times asked next, one per example."""

    def __init__(self) -> None:
        super().__init__()
        self.values: Tensor | None = None

    def forward(self, t: Time) -> Time:
        assert self.values is not None
        return self.values


class Flow:
    """Eq. 1 of a denoiser.

    Args:
        denoiser: of an additive process, guided or not; its parameters take no gradient.
        null: condition → the index that hides it, where the guidance weight is a control of its own; ``denoiser``
            is then the one without guidance.
        last: ρ below which no call is made: what is said there is the end. Of a network that says x, whose estimate is
            not as fine as the noise would be.
    """

    def __init__(self, denoiser: Denoiser, null: Mapping[str, int] | None = None, last: float = 0.0):
        process = denoiser.process
        assert isinstance(process, AdditiveProcess)
        self.process, self.schedule = process, process.schedule
        self._given = Given()
        self.denoiser = denoiser if null is None else ClassifierFree(denoiser, self._given, null)
        self.calls = 0  # of the network, per example; a gradient counts as two
        ends = torch.tensor([0.0, 1.0], dtype=torch.float64)
        with torch.no_grad():
            clean, noisy = (-self.schedule.log_snr(ends) / 2).exp().tolist()
        self.rho_end, self.rho_start, self.last = clean, min(noisy, NOISIEST), last

    def stop(self, usual: float) -> float:
        """The ρ of a last call that is made at ``usual``, where this flow allows it."""
        return max(usual, 2 * self.rho_end, self.last)

    def noise(self, like: Tensor, seeds: Seeds) -> Tensor:
        """The prior in units of its own σ, in the shape of ``like`` (b, ...)."""
        prior = self.process.prior(like, seeds)
        return prior / at(self.schedule.sigma(torch.ones(1, dtype=torch.float64)), prior)

    def time(self, log_rho: Time) -> Time:
        """The times of log ρ, with their slope."""
        with torch.no_grad():
            t = time_of(self.schedule, log_rho)
            rate = self.schedule.log_snr_rate(t)
        if log_rho.requires_grad:  # dt/dλ = 1/λ', as a schedule may invert itself by bisection
            t = t - 2 * (log_rho - log_rho.detach()) / rate
        return t

    def estimate(
        self, y: Tensor, log_rho: Float[Tensor, " b"], w: Float[Tensor, " b"] | None = None, **cond: Tensor
    ) -> Tensor:
        """x̂ (b, ...), differentiable in the state, in log ρ and in the guidance weight."""
        t = self.time(log_rho)
        self._given.values = w
        self.calls += len(y)
        mean: Tensor = self.denoiser(y * at(self.schedule.alpha(t), y), t, **cond).mean
        return mean

    def shares(self, cond: Mapping[str, Tensor], count: int) -> bool:
        """Whether `far` costs next to nothing: so many examples have few combinations of conditions."""
        return self.denoiser.alone and FEW * len(kinds(cond, count)[0]) <= count

    @torch.no_grad()
    def far(self, like: Tensor, **cond: Tensor) -> Tensor:
        """The estimate of noise alone at ``rho_start``, which examples with the same conditions share."""
        t = self.time(torch.full((len(like),), math.log(self.rho_start), dtype=torch.float64))
        self.calls += len(kinds(cond, len(like))[0])
        mean: Tensor = Far(self.denoiser)(like, t, **cond).mean
        return mean


def time_of(schedule: Schedule, log_rho: Tensor) -> Tensor:
    """The times in [0, 1] of log ρ, of any shape."""
    flat = log_rho.detach().double().flatten()
    return schedule.time_of(-2 * flat).clamp(0, 1).reshape(log_rho.shape)
