"""Densities of training times.

A density on [0, 1] is given by its quantile function, which is a control sequence of its own: t = Q(u) with u
uniform. Times are drawn stratified, one per equal part of u in every batch, so that every batch sees every
level of noise and the loss varies less (the antithetic times of Kingma et al. 2021, sec. 5.1, generalised).

A density may also follow what the run has seen so far: `after` is the density with one more batch seen. It is a value
like any other, so what a checkpoint has to keep of it are the tensors of `state`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float
from torch import Tensor

from kuosan.core.curves import derivative
from kuosan.core.entropy import entropy_rate, unit_rate
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

    @property
    def fixed(self) -> Timing:
        """A density that never changes, to ask the same question with again and again: this one, unless it learns."""
        return self

    def after(self, log_snr: Time, squared: Time) -> Timing:
        """The density once errors of x, squared and averaged over elements, were seen at levels λ (b,)."""
        return self

    def state(self) -> dict[str, Tensor]:
        """What it has learned, for `restored`."""
        return {}

    def restored(self, state: Mapping[str, Tensor]) -> Timing:
        """The density that `state` was of."""
        return self


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


BINS, WIDTH = 56, 0.5  # of λ, from -14 to 14: the ends of `LogSNRTiming`
MEMORY = 512.0  # errors that a bin remembers: their mean is then known to a few percent
DOUBT = 16.0  # errors that the first guess, data of unit variance, is worth


def _middles() -> Float[Tensor, " bins"]:
    return (torch.arange(BINS, dtype=torch.float64) + 0.5 - BINS / 2) * WIDTH


def _guess() -> Float[Tensor, "2 bins"]:
    return torch.stack([DOUBT * unit_rate(_middles()), torch.full((BINS,), DOUBT, dtype=torch.float64)])


@dataclass(frozen=True)
class EntropyTiming(Timing):
    """As dense in λ as the data is decided there, by the errors of training itself (Raya et al. 2026, InfoNoise):

        p(λ) ∝ ½ E ‖x - x̂‖² / (ρ² + δ²)                                                        (1)

    With δ = 0 that is -dH(x | x_t)/dλ, eq. 1 of `core.entropy`. Of continuous data it never falls, as every digit of a
    number is as much entropy as the one before; δ is the resolution, relative to data of variance 1, from which on
    digits count less. The errors of about the last ``MEMORY`` examples in each of ``BINS`` equal bins of λ make (1),
    and a share ``floor`` of all times is even over the bins, so that none is ever starved.

    Args:
        usual: the density that a run would have without; see `fixed`.
        resolution: δ.
        floor: that share.
        seen: (2, bins), weights of what was seen: rates times counts, counts.
    """

    usual: Timing = UniformTiming()
    resolution: float = 0.3
    floor: float = 0.1
    seen: Float[Tensor, "2 bins"] = field(default_factory=_guess, compare=False, repr=False)

    @property
    def fixed(self) -> Timing:
        return self.usual

    @property
    def edges(self) -> Float[Tensor, " bins+1"]:
        """λ between the bins, rising."""
        return torch.linspace(-BINS * WIDTH / 2, BINS * WIDTH / 2, BINS + 1, dtype=torch.float64)

    @property
    def rates(self) -> Float[Tensor, " bins"]:
        """The entropy's rate as it was seen, in nats per element and unit of λ."""
        return self.seen[0] / self.seen[1]

    def quantile(self, schedule: Schedule, u: Time) -> Time:
        low, high = self._ends(schedule, u.dtype)
        # u rises with the noise, the share of λ with the signal
        share = high + u * (low - high)
        total, edges = self._total().to(u), self.edges.to(u)
        right = torch.searchsorted(total, share.detach().contiguous()).clamp(1, BINS)
        inside = (share - total[right - 1]) / (total[right] - total[right - 1])
        return schedule.time_of(edges[right - 1] + inside * WIDTH).clamp(0, 1)

    def density(self, schedule: Schedule, u: Time) -> Time:
        low, high = self._ends(schedule, u.dtype)
        share = high + u * (low - high)
        total = self._total().to(u)
        right = torch.searchsorted(total, share.detach().contiguous()).clamp(1, BINS)
        p = (total[right] - total[right - 1]) / WIDTH / (high - low)
        return p * -schedule.log_snr_rate(self.quantile(schedule, u))

    def after(self, log_snr: Time, squared: Time) -> EntropyTiming:
        bins = ((log_snr - self.edges[0]) / WIDTH).floor().long().clamp(0, BINS - 1)
        rates = entropy_rate(
            log_snr, squared.double().cpu()
        )  # here, not before the step: a GPU is not to wait
        new = torch.stack([torch.bincount(bins, w, BINS) for w in (rates, torch.ones_like(rates))])
        seen = self.seen + new
        return replace(self, seen=seen * (MEMORY / seen[1]).clamp_max(1))

    def state(self) -> dict[str, Tensor]:
        return {"seen": self.seen}

    def restored(self, state: Mapping[str, Tensor]) -> EntropyTiming:
        return replace(self, seen=state["seen"])

    def _total(self) -> Float[Tensor, " bins+1"]:
        """The share of times below each edge."""
        rates = self.rates / (1 + _middles().exp() * self.resolution**2)
        shares = (1 - self.floor) * rates / rates.sum().clamp_min(1e-300) + self.floor / BINS
        return torch.cat([shares.new_zeros(1), shares.cumsum(0)])

    def _ends(self, schedule: Schedule, dtype: torch.dtype) -> Tensor:
        """The shares below the schedule's noisy and below its clean end."""
        ends = schedule.log_snr(torch.tensor([1.0, 0.0], dtype=torch.float64))
        place = ((ends - self.edges[0]) / WIDTH).clamp(0, BINS)
        i, total = place.floor().clamp_max(BINS - 1).long(), self._total()
        return (total[i] + (place - i) * (total[i + 1] - total[i])).to(dtype)


TIMINGS: dict[str, Timing] = {
    "uniform": UniformTiming(),
    "lognormal": LogNormalTiming(),
    "logitnormal": LogitNormalTiming(),
    "logsnr": LogSNRTiming(),
    "entropy": EntropyTiming(),
}
