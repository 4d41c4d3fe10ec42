"""Euler's and Heun's methods on the probability-flow ODE, in one of two variables.

    ``rho``:  dy/dρ = ε̂,           y = x/α, ρ = σ/α        (Karras et al. 2022)                (1)
    ``t``:    dx/dt = α' x̂ + σ' ε̂                          (Lipman et al. 2022)                (2)

Euler in ρ is DDIM, and so is Euler in t on straight lines (rectified flow). Heun calls the denoiser twice
a step (once on a last step that ends without noise), and is of order two.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from kuosan.core.posteriors import Posterior
from kuosan.core.random import Seeds
from kuosan.core.schedules import Level, Schedule
from kuosan.core.shapes import Time, at
from kuosan.denoisers.base import Denoiser
from kuosan.processes.additive import AdditiveProcess
from kuosan.processes.base import Process
from kuosan.solvers.base import Solver
from kuosan.solvers.multistep import Multistep, Table

Variable = Literal["rho", "t"]


def _slope(variable: Variable, schedule: Schedule, level: Level) -> tuple[Time, Time]:
    """(p, r): the ODE's right-hand side is p x + r x̂."""
    if variable == "rho":
        return 1 / level.sigma, -level.alpha / level.sigma
    alpha_rate, sigma_rate = schedule.rates(level.t)
    return sigma_rate / level.sigma, alpha_rate - sigma_rate * level.alpha / level.sigma


def _length(variable: Variable, t: Level, s: Level) -> tuple[Time, Time, Time]:
    """(h, u, w): the step's length, and the factors of y_s = u x_t + …, x_s = w y_s."""
    if variable == "rho":
        return s.rho - t.rho, 1 / t.alpha, s.alpha
    return s.t - t.t, torch.ones_like(t.t), torch.ones_like(t.t)


@dataclass(frozen=True)
class Euler(Multistep):
    """One call, order one."""

    variable: Variable = "t"

    def table(self, schedule: Schedule, levels: Level) -> Table:
        t, s = Level(*(x[:-1] for x in levels)), Level(*(x[1:] for x in levels))
        p, r = _slope(self.variable, schedule, t)
        h, u, w = _length(self.variable, t, s)
        return Table(w * (u + h * p), (w * h * r)[:, None])


@dataclass(frozen=True)
class Heun(Solver[None]):
    """The trapezoid rule, predicted by Euler (Karras et al. 2022, alg. 1)."""

    variable: Variable = "rho"
    order: ClassVar[int] = 2
    calls: ClassVar[int] = 2
    needs: ClassVar[type[Process]] = AdditiveProcess

    def step(
        self,
        denoiser: Denoiser,
        x_t: Tensor,
        t: Time,
        s: Time,
        memory: None,
        seeds: Seeds,
        **cond: Tensor,
    ) -> tuple[Tensor, Posterior, None]:
        process = denoiser.process
        assert isinstance(process, AdditiveProcess)
        now, then = process.schedule.level(t), process.schedule.level(s)
        h, u, w = (at(c, x_t) for c in _length(self.variable, now, then))
        p, r = (at(c, x_t) for c in _slope(self.variable, process.schedule, now))
        q = denoiser(x_t, t, **cond)
        slope = p * x_t + r * q.mean
        euler = w * (u * x_t + h * slope)
        if not bool((then.sigma > 0).any()):
            return euler, q, None
        p, r = (at(c, x_t) for c in _slope(self.variable, process.schedule, then))
        ahead = denoiser(euler, s, **cond).mean
        heun = w * (u * x_t + h * (slope + p * euler + r * ahead) / 2)
        # Examples whose own step ends without noise keep Euler's: the slope there is 0/0.
        return torch.where(at(then.sigma > 0, x_t), heun, euler), q, None
