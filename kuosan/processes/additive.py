"""Additive processes: any noise at all.

    x_t = α_t x + σ_t ε,      ε from any law of `processes.noises`                             (1)

What does not need the Gaussian. The path of one datum has the velocity u = α′x + σ′ε, and whatever the law of ε, the
field of its averages carries the law of x_t along (Lipman et al. 2023, thm. 1; Albergo et al. 2023):

    dx_t/dt = E[u | x_t] = α′ x̂ + σ′ ε̂,      x̂ = E[x | x_t],   ε̂ = (x_t - α x̂)/σ               (2)

(for any test function φ, d/dt E φ(x_t) = E[∇φ(x_t)·u] = E[∇φ(x_t)·E[u | x_t]], which is the continuity equation). So
every deterministic solver, which sees the schedule and x̂ alone, samples every such process. Training is a regression
of x̂ and asks for no more than draws of (1).

What does: ε̂ = -σ ∇log p_t, the score, and with it the reverse SDE; and bounds on the likelihood.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from kuosan.core.posteriors import Gaussian
from kuosan.core.random import Seeds
from kuosan.core.schedules import Schedule
from kuosan.core.shapes import Time, at
from kuosan.processes.base import Explicit
from kuosan.processes.noises import Noise


@dataclass(frozen=True)
class AdditiveProcess(Explicit):
    """Eq. 1. States are floating-point tensors (b, ...)."""

    schedule: Schedule
    noise: Noise

    def prior(self, like: Tensor, seeds: Seeds) -> Tensor:
        end = torch.ones(1, dtype=torch.float64)
        return self.noise.draw(like, seeds) * at(self.schedule.sigma(end), like)

    def corrupt(self, x: Tensor, t: Time, seeds: Seeds) -> Tensor:
        return self.between(x, self.noise.draw(x, seeds), t)

    def between(self, x: Tensor, eps: Tensor, t: Time) -> Tensor:
        """Eq. 1 with this noise."""
        return at(self.schedule.alpha(t), x) * x + at(self.schedule.sigma(t), x) * eps

    def log_kernel(self, x: Tensor, x_t: Tensor, t: Time) -> Float[Tensor, "b n"]:
        level = self.schedule.level(t)
        off = x_t[:, None] - at(level.alpha, x_t)[:, None] * x[None]
        eps = off / at(level.sigma, off)
        return self.noise.log_density(eps.flatten(0, 1)).reshape(off.shape[:2])

    def mix(self, x: Tensor, weights: Float[Tensor, "b n"]) -> Gaussian:
        data = x.flatten(1)
        mean = weights @ data
        variance = (weights @ data.square() - mean.square()).clamp_min(0)
        shape = (len(weights), *x.shape[1:])
        return Gaussian(mean.reshape(shape), variance.reshape(shape))

    def __str__(self) -> str:
        return f"a process with {self.noise} noise"
