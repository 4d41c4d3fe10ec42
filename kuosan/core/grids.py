"""Time grids: where along the way a sampler calls its network.

A grid of n steps is n + 1 falling times in float64, ``t_0 > t_1 > … > t_n``; the network is called at the
first n of them and the state is returned at the last. Where the schedule starts without noise, t_n = 0 is
exact: the last step ends on the denoiser's own estimate.

All grids here are even in some function of λ (or of t) between two noise-to-signal ratios ρ = σ/α. Beyond
them nothing is gained: above ρ_max the denoiser returns the mean of the data, below ρ_min the noise is
less than half a grey level of an 8-bit picture in [-1, 1].
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from kuosan.core.entropy import UNIT_PROFILE, EntropyProfile
from kuosan.core.schedules import Schedule

_NO_SIGNAL = 1e4  # ρ from which a schedule is taken to end in noise alone


@dataclass(frozen=True)
class Grid(ABC):
    """A rule that places n + 1 times on a schedule.

    Args:
        rho_max: noise over signal at the first call, where the schedule itself ends in noise alone.
        rho_min: noise over signal at the last call, where the schedule itself starts without noise.
    """

    rho_max: float = 80.0
    rho_min: float = 0.005

    def __call__(self, schedule: Schedule, steps: int) -> Float[Tensor, " n+1"]:
        """Falling times of ``steps`` steps; the last is 0."""
        if steps < 1:
            raise ValueError(f"a grid needs one step or more, not {steps}")
        with torch.no_grad():
            ends = torch.tensor([self.rho_max, self.rho_min], dtype=torch.float64)
            start, stop = schedule.time_of(-2 * ends.log()).clamp(0, 1)
            # A schedule that ends at a stated level of noise (EDM, DDPM) has its prior there.
            last = torch.ones(1, dtype=torch.float64)
            if float(schedule.log_snr(last)) > -2 * math.log(_NO_SIGNAL):
                start = last[0]
            part = torch.linspace(0, 1, steps, dtype=torch.float64)
            # Schedules that start with noise (EDM) are walked evenly down to their own end, uncalled.
            clean = bool(schedule.sigma(torch.zeros(1, dtype=torch.float64)) == 0)
            if not clean:
                stop = torch.zeros_like(stop)
                part = torch.linspace(0, 1, steps + 1, dtype=torch.float64)[:-1]
            inner = self._place(schedule, start, stop, part)
            return torch.cat([inner.clamp(0, 1), torch.zeros(1, dtype=torch.float64)])

    @abstractmethod
    def _place(self, schedule: Schedule, start: Tensor, stop: Tensor, part: Tensor) -> Tensor:
        """Times for parts in [0, 1] of the way from ``start`` to ``stop``."""


@dataclass(frozen=True)
class Uniform(Grid):
    """Even in t, from the noisy end down to the last step's length."""

    def _place(self, schedule: Schedule, start: Tensor, stop: Tensor, part: Tensor) -> Tensor:
        return start * (1 - torch.arange(len(part), dtype=torch.float64) / len(part))


@dataclass(frozen=True)
class LogSNR(Grid):
    """Even in λ (Lu et al. 2022)."""

    def _place(self, schedule: Schedule, start: Tensor, stop: Tensor, part: Tensor) -> Tensor:
        ends = schedule.log_snr(torch.stack([start, stop]))
        return schedule.time_of(ends[0] + part * (ends[1] - ends[0]))


@dataclass(frozen=True)
class Karras(Grid):
    """Even in ρ^(1/power) (Karras et al. 2022, eq. 5; their ρ is ``power``). Power 1 is even in ρ; as it
    grows the grid tends to `LogSNR`."""

    power: float = 7.0

    def _place(self, schedule: Schedule, start: Tensor, stop: Tensor, part: Tensor) -> Tensor:
        roots = (schedule.log_snr(torch.stack([start, stop])) / (-2 * self.power)).exp()
        return schedule.time_of(-2 * self.power * (roots[0] + part * (roots[1] - roots[0])).log())


@dataclass(frozen=True)
class Entropy(Grid):
    """Even in the entropy that is left: every step decides as much of x as any other (Stancevic et al. 2025, sec. 4).

    Args:
        profile: of the data, as a model sees it.
        power: of the rate. 1 is even in entropy, 0 is `LogSNR`; between them the steps are spread more widely, as
            an integrator of order p would have them whose local errors grow with the rate (power 1/(p + 1)).
    """

    profile: EntropyProfile = UNIT_PROFILE
    power: float = 1.0

    def _place(self, schedule: Schedule, start: Tensor, stop: Tensor, part: Tensor) -> Tensor:
        noisy, clean = schedule.log_snr(torch.stack([start, stop])).tolist()
        return schedule.time_of(self.profile.split(noisy, clean, part, self.power))


def resized(schedule: Schedule, times: Float[Tensor, " n+1"], scale: float) -> Float[Tensor, " n+1"]:
    """The times of a grid for states whose sides are ``scale`` times as long: λ falls by 2 log(scale), as larger
    pictures need more noise to hide as much (Hoogeboom et al. 2023, eq. 4). On the rectified schedule

        t′ = scale t / (1 + (scale − 1) t),      scale = √(m/n) for m places in place of n            (1)

    (Esser et al. 2024, eq. 23). The ends stay; near those of a schedule that stops short of pure noise, or of none, a
    time goes no further than half of the way there.
    """
    ends = schedule.log_snr(torch.tensor([1.0, 0.0], dtype=torch.float64))
    old = schedule.log_snr(times)
    new = old - 2 * math.log(scale)
    noisy, clean = (torch.where(ends.isfinite(), ends, torch.inf)[:, None] + old) / 2
    new = torch.where(ends[0].isfinite(), torch.maximum(new, noisy), new)
    new = torch.where(ends[1].isfinite(), torch.minimum(new, clean), new)
    moved = schedule.time_of(new).clamp(0, 1)
    return torch.where((times > 0) & (times < 1), moved, times)


KINDS = "uniform, logsnr, karras, karras:POWER or karras:POWER:END, entropy or entropy:POWER"


def grid(name: str, profile: EntropyProfile | None = None) -> Grid:
    """A grid by its name in a recipe: ``uniform``, ``logsnr``, ``karras``, ``karras:POWER``, ``karras:POWER:END`` with
    the noise over signal of the last call, ``entropy`` or ``entropy:POWER``, the last two of this profile.

    Raises:
        ValueError: there is no such grid, or no profile to make it of.
    """
    kind, *numbers = name.split(":")
    if kind in ("karras", "entropy") and len(numbers) <= {"karras": 2, "entropy": 1}[kind]:
        power = _positive(numbers[0], f"the power of {kind} grids") if numbers else None
        if kind == "karras":
            end = _positive(numbers[1], "the last noise over signal of a grid") if len(numbers) > 1 else None
            if end is not None and end >= Grid.rho_max:
                raise ValueError(
                    f"the last noise over signal of a grid is below {Grid.rho_max:g}, not {end:g}"
                )
            return Karras(power=power or 7.0, rho_min=end or Grid.rho_min)
        if profile is None:
            raise ValueError(f"the grid {name!r} needs an entropy profile: choose uniform, logsnr or karras")
        return Entropy(profile=profile, power=power or 1.0)
    if kind in ("uniform", "logsnr") and not numbers:
        return Uniform() if kind == "uniform" else LogSNR()
    raise ValueError(f"there is no grid {name!r}: choose {KINDS}")


def _positive(text: str, what: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"{what} is a positive number, not {text!r}")
    return value
