"""Noise schedules: how much signal and how much noise there is at time t.

    x_t = α_t x + σ_t ε,   ε ~ N(0, 1)                                                         (1)
    λ_t = log(α_t² / σ_t²)   the log signal-to-noise ratio, falling in t                       (2)

A schedule is the pair (α, σ) and nothing else: no discrete steps, no β, no sampler. From t = 0 (data) to
t = 1 (noise). λ is what matters: two schedules with the same range of λ define the same family of
distributions up to a rescaling of x_t and of time (Kingma et al. 2021, sec. 5.1), so grids and weights
are written in λ, or in the noise-to-signal ratio ρ = σ/α = exp(-λ/2), Karras's σ.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from kuosan.core.curves import Monotone, derivative
from kuosan.core.shapes import Time


class Level(NamedTuple):
    """Everything that a coefficient may need of a time; each (b,)."""

    t: Time
    alpha: Time
    sigma: Time
    log_snr: Time

    @property
    def rho(self) -> Time:
        """Noise over signal, σ/α."""
        return self.sigma / self.alpha


class Schedule(nn.Module, ABC):
    """Signal and noise along time; may hold parameters."""

    @abstractmethod
    def alpha(self, t: Time) -> Time:
        """The signal's factor."""

    @abstractmethod
    def sigma(self, t: Time) -> Time:
        """The noise's standard deviation."""

    def log_snr(self, t: Time) -> Time:
        """λ = 2 log(α/σ); +inf where there is no noise, -inf where there is no signal."""
        return 2 * (self.alpha(t).log() - self.sigma(t).log())

    def rates(self, t: Time) -> tuple[Time, Time]:
        """dα/dt and dσ/dt."""
        return derivative(self.alpha, t), derivative(self.sigma, t)

    def log_snr_rate(self, t: Time) -> Time:
        """dλ/dt, negative."""
        return derivative(self.log_snr, t)

    def time_of(self, log_snr: Time) -> Time:
        """The time at which λ has this value: by bisection, unless a schedule knows better."""
        low, high = torch.zeros_like(log_snr), torch.ones_like(log_snr)
        for _ in range(60):
            middle = (low + high) / 2
            noisier = self.log_snr(middle) > log_snr
            low, high = torch.where(noisier, middle, low), torch.where(noisier, high, middle)
        return (low + high) / 2

    def level(self, t: Time) -> Level:
        """Time, α, σ and λ together."""
        return Level(t, self.alpha(t), self.sigma(t), self.log_snr(t))

    def clip(self, t: Time, bound: float = 16.0) -> Time:
        """``t`` kept where |λ| ≤ bound: where single precision can still tell signal from noise."""
        ends = self.time_of(torch.tensor([bound, -bound], dtype=t.dtype)).clamp(0, 1).to(t)
        return t.clamp(ends[0], ends[1])


class Rectified(Schedule):
    """α = 1 - t, σ = t: straight lines (Liu et al. 2022; Lipman et al. 2022)."""

    def alpha(self, t: Time) -> Time:
        return 1 - t

    def sigma(self, t: Time) -> Time:
        return t.clone()

    def rates(self, t: Time) -> tuple[Time, Time]:
        return -torch.ones_like(t), torch.ones_like(t)

    def time_of(self, log_snr: Time) -> Time:
        return torch.sigmoid(-log_snr / 2)


class VPLinear(Schedule):
    """Variance-preserving with a linear β (DDPM's schedule in continuous time; Song et al. 2021, eq. 33).

    α² = exp(-B),  B = β_min t + (β_max - β_min) t²/2.
    """

    def __init__(self, beta_min: float = 0.1, beta_max: float = 20.0):
        super().__init__()
        self.beta_min, self.beta_max = beta_min, beta_max

    def _b(self, t: Time) -> Time:
        return t * self.beta_min + t.square() * ((self.beta_max - self.beta_min) / 2)

    def alpha(self, t: Time) -> Time:
        return (-self._b(t) / 2).exp()

    def sigma(self, t: Time) -> Time:
        return (-torch.expm1(-self._b(t))).sqrt()

    def log_snr(self, t: Time) -> Time:
        return -torch.expm1(self._b(t)).log()

    def rates(self, t: Time) -> tuple[Time, Time]:
        beta = self.beta_min + t * (self.beta_max - self.beta_min)
        alpha = self.alpha(t)
        return -beta * alpha / 2, beta * alpha.square() / (2 * self.sigma(t))

    def time_of(self, log_snr: Time) -> Time:
        b = nn.functional.softplus(-log_snr, threshold=1e9)
        return 2 * b / (self.beta_min + (self.beta_min**2 + 2 * (self.beta_max - self.beta_min) * b).sqrt())


class Cosine(Schedule):
    """α = cos(πt/2), σ = sin(πt/2) (Nichol & Dhariwal 2021, without the offset s)."""

    def alpha(self, t: Time) -> Time:
        return torch.sin((1 - t) * (math.pi / 2))  # exactly zero at t = 1, where cos gives 6e-17

    def sigma(self, t: Time) -> Time:
        return torch.sin(t * (math.pi / 2))

    def rates(self, t: Time) -> tuple[Time, Time]:
        return -self.sigma(t) * (math.pi / 2), self.alpha(t) * (math.pi / 2)

    def time_of(self, log_snr: Time) -> Time:
        return torch.atan((-log_snr / 2).exp()) * (2 / math.pi)


class Sigmoid(Schedule):
    """α² is a piece of a sigmoid from start to end (Jabri et al. 2022, alg. 1)."""

    def __init__(self, start: float = -3.0, end: float = 3.0, tau: float = 1.0):
        super().__init__()
        self.start, self.end, self.tau = start, end, tau
        self._low, self._high = 1 / (1 + math.exp(-start / tau)), 1 / (1 + math.exp(-end / tau))

    def _part(self, t: Time) -> Time:
        return torch.sigmoid((t * (self.end - self.start) + self.start) / self.tau)

    def alpha(self, t: Time) -> Time:
        return ((self._high - self._part(t)) / (self._high - self._low)).clamp_min(0).sqrt()

    def sigma(self, t: Time) -> Time:
        return ((self._part(t) - self._low) / (self._high - self._low)).clamp_min(0).sqrt()

    def time_of(self, log_snr: Time) -> Time:
        part = self._low + (self._high - self._low) * torch.sigmoid(-log_snr)
        return (torch.logit(part) * self.tau - self.start) / (self.end - self.start)


class EDM(Schedule):
    """Exploding: α = 1, σ from σ_min to σ_max by equal ratios (Song et al. 2021; Karras et al. 2022)."""

    def __init__(self, sigma_min: float = 0.002, sigma_max: float = 80.0):
        super().__init__()
        self.sigma_min, self.sigma_max = sigma_min, sigma_max
        self._range = math.log(sigma_max / sigma_min)

    def alpha(self, t: Time) -> Time:
        return torch.ones_like(t)

    def sigma(self, t: Time) -> Time:
        return self.sigma_min * (t * self._range).exp()

    def rates(self, t: Time) -> tuple[Time, Time]:
        return torch.zeros_like(t), self.sigma(t) * self._range

    def time_of(self, log_snr: Time) -> Time:
        return (-log_snr / 2 - math.log(self.sigma_min)) / self._range


class Shifted(Schedule):
    """Another schedule with λ lowered by 2 log(shift): larger pictures need more noise to hide as much.

    shift = side / 64 for pictures (Hoogeboom et al. 2023, eq. 4); on the rectified schedule it is the
    time shift of Esser et al. (2024, eq. 23).
    """

    def __init__(self, base: Schedule, shift: float):
        super().__init__()
        if shift <= 0:
            raise ValueError(f"a shift is a positive ratio, not {shift}")
        self.base, self.shift = base, float(shift)
        ends = torch.tensor([1e-3, 1.0], dtype=torch.float64)
        with torch.no_grad():
            got, wanted = super().log_snr(ends), self.log_snr(ends)
        if not torch.allclose(got, wanted, rtol=1e-9, atol=1e-6):
            raise ValueError(
                f"a {type(base).__name__} schedule ends before a shift of {shift:g}: "
                "choose other ends of its log-SNR instead"
            )

    def _inner(self, t: Time) -> Time:
        return self.base.time_of(self.base.log_snr(t) - 2 * math.log(self.shift))

    def alpha(self, t: Time) -> Time:
        return self.base.alpha(self._inner(t))

    def sigma(self, t: Time) -> Time:
        return self.base.sigma(self._inner(t))

    def log_snr(self, t: Time) -> Time:
        return self.base.log_snr(t) - 2 * math.log(self.shift)

    def rates(self, t: Time) -> tuple[Time, Time]:
        # At the very ends λ is infinite and the chain rule reads inf · 0.
        return super().rates(t.clamp(1e-9, 1 - 1e-9))

    def log_snr_rate(self, t: Time) -> Time:
        return self.base.log_snr_rate(t)

    def time_of(self, log_snr: Time) -> Time:
        return self.base.time_of(log_snr + 2 * math.log(self.shift))


class Learned(Schedule):
    """Variance-preserving with a learned monotone λ between two ends (VDM, Kingma et al. 2021, sec. 5)."""

    def __init__(self, log_snr_max: float = 13.3, log_snr_min: float = -5.0, pieces: int = 32):
        super().__init__()
        self.fall = Monotone(pieces)
        self.log_snr_max, self.log_snr_min = log_snr_max, log_snr_min

    def log_snr(self, t: Time) -> Time:
        return self.log_snr_max - (self.log_snr_max - self.log_snr_min) * self.fall(t)

    def alpha(self, t: Time) -> Time:
        return torch.sigmoid(self.log_snr(t)).sqrt()

    def sigma(self, t: Time) -> Time:
        return torch.sigmoid(-self.log_snr(t)).sqrt()


class Tabulated(Schedule):
    """The schedule of a discrete model: cumulative products ᾱ_0 … ᾱ_{T-1} at t = (i + 1)/T, clean at t = 0.

    Between the entries log ρ is linear in t; below the first, ρ is linear, so that σ(0) = 0 exactly.
    """

    def __init__(self, alphas_cumprod: Tensor | Sequence[float]):
        super().__init__()
        a = torch.as_tensor(alphas_cumprod, dtype=torch.float64).detach().cpu()
        # A zero terminal signal (Lin et al. 2024) has no finite λ: the last entry is put at λ = -40.
        log_rho = ((1 - a).log() - a.log()).div(2).clamp_max(20.0)
        self.register_buffer("log_rho", log_rho, persistent=False)
        self.log_rho: Tensor

    def _rho(self, t: Time) -> Time:
        table, last = self.log_rho.to(t), len(self.log_rho) - 1
        place = t * (last + 1) - 1
        i = place.detach().floor().clamp(0, max(last - 1, 0)).long()
        inside = (table[i] + (place - i) * (table[(i + 1).clamp_max(last)] - table[i])).exp()
        return torch.where(place < 0, table[0].exp() * (place + 1).clamp_min(0), inside)

    def alpha(self, t: Time) -> Time:
        return (1 + self._rho(t).square()).rsqrt()

    def sigma(self, t: Time) -> Time:
        rho = self._rho(t)
        return rho * (1 + rho.square()).rsqrt()

    def log_snr(self, t: Time) -> Time:
        return -2 * self._rho(t).log()

    def time_of(self, log_snr: Time) -> Time:
        log_rho, table = -log_snr / 2, self.log_rho.to(log_snr)
        entries = len(table)
        i = (torch.searchsorted(table, log_rho.detach().contiguous()) - 1).clamp(0, max(entries - 2, 0))
        width = table[(i + 1).clamp_max(entries - 1)] - table[i]
        place = i + (log_rho - table[i]) / width.clamp_min(torch.finfo(width.dtype).tiny)
        below = log_rho < table[0]
        # Only the branch that is taken may carry a gradient: the other one can be infinite.
        first = (torch.where(below, log_rho, table[0]) - table[0]).exp()
        return torch.where(below, first, place + 1) / entries
