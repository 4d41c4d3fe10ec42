"""Densities of training times.

A density on [0, 1] is given by its quantile function, which is a control sequence of its own: t = Q(u) with u
uniform. Times are drawn stratified, one per equal part of u in every batch, so that every batch sees every
level of noise and the loss varies less (the antithetic times of Kingma et al. 2021, sec. 5.1, generalised).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from kuosan.core.curves import derivative
from kuosan.core.random import Seeds
from kuosan.core.schedules import Schedule
from kuosan.core.shapes import Time


@dataclass(frozen=True)
class Timing(ABC):
    """A density of times on a schedule."""

    @abstractmethod
    def quantile(self, schedule: Schedule, u: Time) -> Time:
        """Q(u), rising from 0 to 1 as u does."""

    def density(self, schedule: Schedule, u: Time) -> Time:
        """p(t) at t = Q(u): 1/Q'(u)."""
        return 1 / derivative(lambda v: self.quantile(schedule, v), u)

    def draw(self, seeds: Seeds) -> Time:
        """Stratified u in (0, 1), one per example: the k-th of b lies in [k/b, (k+1)/b)."""
        u = (torch.arange(len(seeds), dtype=torch.float64) + seeds.fold("time").uniforms()) / len(seeds)
        return u.clamp(1e-9, 1 - 1e-9)


@dataclass(frozen=True)
class UniformTiming(Timing):
    """Even in t."""

    def quantile(self, schedule: Schedule, u: Time) -> Time:
        return u


@dataclass(frozen=True)
class LogNormalTiming(Timing):
    """log ρ ~ N(mean, std²) (Karras et al. 2022, table 1), the tails beyond the schedule's ends cut off."""

    mean: float = -1.2
    std: float = 1.2

    def quantile(self, schedule: Schedule, u: Time) -> Time:
        normal = torch.distributions.Normal(0.0, 1.0)
        low, high = self._ends(schedule, u.dtype)  # only the part of the normal that lies on the schedule
        log_rho = self.mean + self.std * normal.icdf(low + u * (high - low))
        return schedule.time_of(-2 * log_rho).clamp(0, 1)

    def density(self, schedule: Schedule, u: Time) -> Time:
        # By the change of variables log ρ = -λ/2: a schedule may invert itself by bisection, which has no slope.
        t = self.quantile(schedule, u)
        low, high = self._ends(schedule, u.dtype)
        normal = torch.distributions.Normal(self.mean, self.std)
        p = normal.log_prob(-schedule.log_snr(t) / 2).exp() / (high - low)
        return p * -schedule.log_snr_rate(t) / 2

    def _ends(self, schedule: Schedule, dtype: torch.dtype) -> Tensor:
        """The probabilities below t = 0 and below t = 1."""
        ends = torch.tensor([0.0, 1.0], dtype=dtype)
        return torch.distributions.Normal(0.0, 1.0).cdf((-schedule.log_snr(ends) / 2 - self.mean) / self.std)


@dataclass(frozen=True)
class LogitNormalTiming(Timing):
    """logit t ~ N(mean, std²) (Esser et al. 2024, eq. 19)."""

    mean: float = 0.0
    std: float = 1.0

    def quantile(self, schedule: Schedule, u: Time) -> Time:
        return torch.sigmoid(self.mean + self.std * torch.distributions.Normal(0.0, 1.0).icdf(u))


@dataclass(frozen=True)
class LogSNRTiming(Timing):
    """Even in λ, between two ends or the schedule's own: the bound then weighs errors of ε alike at every level, and no
    rare time outweighs a batch (Kingma et al. 2021, sec. 5.1)."""

    clean: float = 14.0
    noisy: float = -14.0

    def quantile(self, schedule: Schedule, u: Time) -> Time:
        clean, noisy = self._ends(schedule, u.dtype)
        return schedule.time_of(clean + u * (noisy - clean)).clamp(0, 1)

    def density(self, schedule: Schedule, u: Time) -> Time:
        clean, noisy = self._ends(schedule, u.dtype)
        return -schedule.log_snr_rate(self.quantile(schedule, u)) / (clean - noisy)

    def _ends(self, schedule: Schedule, dtype: torch.dtype) -> Tensor:
        return schedule.log_snr(torch.tensor([0.0, 1.0], dtype=dtype)).clamp(self.noisy, self.clean)


TIMINGS: dict[str, Timing] = {
    "uniform": UniformTiming(),
    "lognormal": LogNormalTiming(),
    "logitnormal": LogitNormalTiming(),
    "logsnr": LogSNRTiming(),
}
