"""What a denoiser says of the law of x_t, and what the schedule says of how that law changes.

    ∇ log q_t(x_t) = (α E[x | x_t] - x_t)/σ²                        Tweedie's formula                (1)
    dx = a x dt + g dw,   a = α'/α,   g² = 2σσ' - 2aσ² = -λ'σ²      Kingma et al. 2021, sec. 2.1     (2)

(2) is the one linear diffusion whose law given x is N(αx, σ²), whatever the schedule.
"""

from __future__ import annotations

from torch import Tensor

from kuosan.core.schedules import Schedule
from kuosan.core.shapes import Time, at
from kuosan.denoisers.base import Denoiser


def score(denoiser: Denoiser, x_t: Tensor, t: Time, **cond: Tensor) -> Tensor:
    """Eq. 1 with the denoiser's mean, in the shape of ``x_t``; for Gaussian processes, where σ > 0."""
    level = denoiser.process.schedule.level(t)  # type: ignore[attr-defined]
    mean = denoiser(x_t, t, **cond).mean
    return (at(level.alpha, x_t) * mean - x_t) / at(level.sigma, x_t).square()


def coefficients(schedule: Schedule, t: Time) -> tuple[Time, Time]:
    """(a, g²) of eq. 2, each (b,); not finite where there is no signal left."""
    alpha_rate, _ = schedule.rates(t)
    return alpha_rate / schedule.alpha(t), -schedule.log_snr_rate(t) * schedule.sigma(t).square()
