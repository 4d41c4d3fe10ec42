"""Gaussian processes of any schedule.

    x_t = α_t x + σ_t ε                                                                        (1)
    x_s | x_t, x ~ N( a x_t + b x, v )   for s < t, with, writing α_{t|s} = α_t/α_s and
    σ²_{t|s} = σ_t² - α²_{t|s} σ_s²:
        a = α_{t|s} σ_s²/σ_t²,   b = α_s σ²_{t|s}/σ_t²,   v = σ²_{t|s} σ_s²/σ_t²               (2)
    bound per unit of time: -½ (dSNR/dt) ‖x - x̂‖²,   SNR = α²/σ²                               (3)
    and per step, when x given x_t has variance V:
        ½ Σ_i [ (v + b²(x - x̂)²)/w - 1 - log(v/w) ],   w = v + b²V                             (4)

(2): Sohl-Dickstein et al. 2015, Ho et al. 2020, eq. 7; in this form Kingma et al. 2021, eq. 18 ff. (3): Kingma et
al. 2021, eq. 15. (4) is the divergence of two normal laws, the model's matched in mean and variance to its bridge.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from kuosan.core.posteriors import Gaussian, Posterior
from kuosan.core.random import Seeds
from kuosan.core.schedules import Level
from kuosan.core.shapes import Time, at, per_example
from kuosan.processes.additive import AdditiveProcess
from kuosan.processes.base import Bridged
from kuosan.processes.noises import Noise, Normal


def bridge_terms(t: Level, s: Level) -> tuple[Time, Time, Time]:
    """(a, b, v) of eq. 2, without a difference of nearly equal numbers."""
    # σ²_{t|s}/σ_t² = 1 - SNR_t/SNR_s = -expm1(λ_t - λ_s)
    new = -torch.expm1(t.log_snr - s.log_snr)
    # α_{t|s} σ_s²/σ_t² = (α_s/α_t) · SNR_t/SNR_s, written so that neither end divides by zero
    a = (s.sigma / t.sigma).square() * t.alpha / s.alpha
    return a, s.alpha * new, new * s.sigma.square()


@dataclass(frozen=True)
class GaussianProcess(AdditiveProcess, Bridged):
    """Eq. 1 with this schedule. States are floating-point tensors (b, ...)."""

    noise: Noise = field(default=Normal(), init=False, repr=False)

    def bridge(self, x_t: Tensor, q: Posterior, t: Time, s: Time, seeds: Seeds) -> Tensor:
        a, b, v = bridge_terms(self.schedule.level(t), self.schedule.level(s))
        # Drawing x from q, not only its mean, is what makes the step exact when q is.
        return (
            at(a, x_t) * x_t + at(b, x_t) * q.sample(seeds.fold("x")) + at(v.sqrt(), x_t) * seeds.normal(x_t)
        )

    def elbo_rate(self, x: Tensor, x_t: Tensor, q: Posterior, t: Time) -> Time:
        slope = -self.schedule.log_snr_rate(t) * self.schedule.log_snr(t).exp() / 2
        return slope.to(x) * per_example((x - q.mean).square())

    def step_divergence(self, x: Tensor, x_t: Tensor, q: Posterior, t: Time, s: Time) -> Time:
        _, b, v = bridge_terms(self.schedule.level(t), self.schedule.level(s))
        ratio = at(b.square() / v, x_t)
        excess = ratio * q.variance if isinstance(q, Gaussian) else torch.zeros_like(x_t)  # w/v - 1
        off = ratio * (x - q.mean).square()
        return per_example((off - excess) / (1 + excess) + excess.log1p()) / 2

    def prior_divergence(self, x: Tensor, t: Time) -> Time:
        level = self.schedule.level(t)
        off = at((level.alpha / level.sigma).square() / 2, x) * x.square()
        return per_example(off)

    def log_kernel(self, x: Tensor, x_t: Tensor, t: Time) -> Float[Tensor, "b n"]:
        level = self.schedule.level(t)
        flat, data = x_t.flatten(1), x.flatten(1)
        # ‖x_t - α x‖² without the part that no datum changes
        cross = flat @ data.T * at(level.alpha / level.sigma.square(), flat)
        return cross - data.square().sum(1) * at(level.log_snr.exp() / 2, flat)
