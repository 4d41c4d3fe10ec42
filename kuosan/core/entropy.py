"""The entropy's profile: at which noise the data is decided.

In Gaussian noise, what x_t tells of x grows with the signal by half of what it leaves open,

    d/dλ I(x; x_t) = -d/dλ H(x | x_t) = ½ SNR · E ‖x - E[x | x_t]‖²                            (1)

(Guo, Shamai & Verdú 2005, eq. 1, with λ = log SNR). A denoiser's squared error is at least that of the mean, so a
model's errors give an upper estimate of the rate, at no cost but the look. The rate over λ depends on the data alone
and on no schedule. It is a control sequence twice over: as the density of training times (Raya et al. 2026) and, cut
into equal parts, as the grid of a sampler (Stancevic et al. 2025).

Per element, data of unit variance would have the rate ½ SNR/(1 + SNR) = ½ sigmoid(λ). A profile is kept relative to it,

    rate(λ) = ½ sigmoid(λ) exp r(λ),      r linear between knots, constant beyond              (2)

which is right at both ends: far in the noise the error is the data's variance, and far in the signal it falls as the
noise does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

SMALLEST = 1e-12  # of a rate relative to that of unit variance: data that never change have none
_FINE = 4096  # parts that a range is integrated in


def entropy_rate(log_snr: Tensor, squared: Tensor) -> Tensor:
    """Eq. 1 in nats per element and unit of λ, of the mean squared error of x per element."""
    return log_snr.exp() * squared / 2


def unit_rate(log_snr: Tensor) -> Tensor:
    """`entropy_rate` of Gaussian data of variance 1."""
    return torch.sigmoid(log_snr) / 2


@dataclass(frozen=True)
class EntropyProfile:
    """Eq. 2.

    Args:
        log_snrs: λ of the knots, rising; two or more.
        rates: there, in nats per element and unit of λ.
    """

    log_snrs: tuple[float, ...]
    rates: tuple[float, ...]

    def __post_init__(self) -> None:
        knots, rates = torch.tensor(self.log_snrs), torch.tensor(self.rates)
        if len(knots) < 2 or len(knots) != len(rates) or bool((knots.diff() <= 0).any()):
            raise ValueError("an entropy profile needs two log-SNRs or more, rising, and a rate for each")
        if not bool((torch.isfinite(rates) & (rates >= 0) & torch.isfinite(knots)).all()):
            raise ValueError("the rates of an entropy profile are finite and not negative")

    def rate(self, log_snr: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        """-dH(x | x_t)/dλ in nats per element."""
        knots = torch.tensor(self.log_snrs, dtype=torch.float64)
        ratios = (torch.tensor(self.rates, dtype=torch.float64) / unit_rate(knots)).clamp_min(SMALLEST).log()
        at = log_snr.clamp(knots[0], knots[-1])
        right = torch.searchsorted(knots, at.contiguous()).clamp(1, len(knots) - 1)
        part = (at - knots[right - 1]) / (knots[right] - knots[right - 1])
        return unit_rate(log_snr) * (ratios[right - 1] + part * (ratios[right] - ratios[right - 1])).exp()

    def entropy(self, noisy: float, clean: float, power: float = 1.0) -> tuple[Tensor, Tensor]:
        """Levels λ that rise from ``noisy`` to ``clean``, and the integral of rate^power up to each, in nats."""
        levels = torch.linspace(noisy, clean, _FINE + 1, dtype=torch.float64)
        rates = self.rate(levels) ** power
        steps = (rates[1:] + rates[:-1]) / 2 * levels.diff()
        return levels, torch.cat([steps.new_zeros(1), steps.cumsum(0)])

    def nats(self, noisy: float, clean: float) -> float:
        """I(x; x_t) gained on the way from λ = noisy to λ = clean, per element."""
        return float(self.entropy(noisy, clean)[1][-1])

    def split(
        self, noisy: float, clean: float, part: Float[Tensor, " n"], power: float = 1.0
    ) -> Float[Tensor, " n"]:
        """λ that have these parts of the whole integral of rate^power between them and ``noisy``."""
        levels, total = self.entropy(noisy, clean, power)
        wanted = part * total[-1]
        right = torch.searchsorted(total, wanted.contiguous()).clamp(1, _FINE)
        inside = (wanted - total[right - 1]) / (total[right] - total[right - 1])
        return levels[right - 1] + inside.clamp(0, 1) * (levels[right] - levels[right - 1])

    def to_json(self) -> dict[str, Any]:
        """What `of_json` reads."""
        return {"log_snrs": list(self.log_snrs), "rates": list(self.rates)}

    @classmethod
    def of_json(cls, tree: Mapping[str, Sequence[float]]) -> EntropyProfile:
        """From `to_json`; KeyError, TypeError or ValueError where it is none."""
        return cls(tuple(map(float, tree["log_snrs"])), tuple(map(float, tree["rates"])))


UNIT_PROFILE = EntropyProfile(
    (0.0, 1.0), tuple(unit_rate(torch.tensor([0.0, 1.0], dtype=torch.float64)).tolist())
)
