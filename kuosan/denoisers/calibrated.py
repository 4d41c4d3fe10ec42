"""Optimal reverse variances without training.

A network trained on squared error knows the mean of x given x_t and not its variance, although the reverse step
that comes closest to the true one needs both (Analytic-DPM, Bao et al. 2022). Given any mean x̂, the variance that
makes every step's divergence from the true reverse smallest is

    V(t) = E ‖x - x̂(x_t, t)‖² / d                                                              (1)

per step the minimum over w of E[ (v + b²(x - x̂)²)/w - log(v/w) ], which is w = v + b²V (see
`processes.gaussian`). Bao et al. write V by ‖ε̂‖², which is the same for a perfect mean only; eq. 1 is right for the
mean at hand. It is one number per noise level, free of any grid of steps: a control sequence. Kept relative to
what data of unit variance would have,

    V = v₁ exp r(λ),    v₁ = σ²/(α² + σ²)                                                      (2)

r = 0 is the larger of the two hand-made variances of Ho et al. 2020 and r → -∞ the smaller. r may also have a value
per element of the state (eq. 1 without the mean over d): pictures are less certain in the middle than at the border.

V is also the variance of x around x̂, whatever the noise: under a noise that is not Gaussian it is the second moment
that drawing x needs, if not what a divergence asks for.

For small states under Gaussian noise the whole covariance follows from the mean's slope (Tweedie's second-order
formula):

    Cov[x | x_t] = (σ²/α) ∂x̂/∂x_t                                                              (3)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from kuosan.core.entropy import EntropyProfile, unit_rate
from kuosan.core.posteriors import Gaussian, Point, Posterior
from kuosan.core.random import Seeds
from kuosan.core.schedules import Level
from kuosan.core.shapes import Time, as_time, at
from kuosan.denoisers.base import Denoiser
from kuosan.processes.additive import AdditiveProcess
from kuosan.processes.gaussian import GaussianProcess

LEVELS = 24
RANGE = (-10.0, 14.0)  # of log-SNRs: below nothing is known of x and r → 0, above r falls as the level does
SMALLEST = 1e-12  # of a variance relative to v₁: a pixel that never changes has none
GAIN = 0.01  # nats per element and step that a curve for every element must bring on items that it was not fitted on


class HandMade(Denoiser):
    """A denoiser's mean with one of the two variances of Ho et al. (2020, sec. 3.2): exact for data of unit variance
    (``larger``), or that are one point."""

    process: GaussianProcess

    def __init__(self, denoiser: Denoiser, larger: bool):
        super().__init__()
        assert isinstance(denoiser.process, GaussianProcess)
        self.process, self.denoiser, self.larger = denoiser.process, denoiser, larger

    def forward(self, x_t: Tensor, t: Time, **cond: Tensor) -> Posterior:
        mean = self.denoiser(x_t, t, **cond).mean
        if not self.larger:
            return Point(mean)
        return Gaussian(mean, at(unit_variance(self.process.schedule.level(t)), mean).expand_as(mean))


def hand_made(denoiser: Denoiser) -> dict[str, Denoiser]:
    """Both; none for a process that is not Gaussian."""
    if not isinstance(denoiser.process, GaussianProcess):
        return {}
    return {"smaller": HandMade(denoiser, False), "larger": HandMade(denoiser, True)}


def unit_variance(level: Level) -> Time:
    """v₁ of eq. 2."""
    return level.sigma.square() / (level.alpha.square() + level.sigma.square())


class Calibrated(Denoiser):
    """A denoiser with the variances of eq. 2 around its mean.

    Args:
        denoiser: of an additive process; only its mean is used.
        log_snrs: (m,), rising.
        log_ratios: r, (m,) or (m, ...) in the shape of a state; linear between levels, constant beyond them.
    """

    process: AdditiveProcess

    def __init__(self, denoiser: Denoiser, log_snrs: Float[Tensor, " m"], log_ratios: Float[Tensor, "m ..."]):
        super().__init__()
        assert isinstance(denoiser.process, AdditiveProcess)
        self.process, self.denoiser = denoiser.process, denoiser
        self.log_snrs, self.log_ratios = log_snrs.double(), log_ratios.double()

    def forward(self, x_t: Tensor, t: Time, **cond: Tensor) -> Gaussian:
        mean = self.denoiser(x_t, t, **cond).mean
        return Gaussian(mean, self.variance(mean, t).expand_as(mean))

    def along(self, times: tuple[Time, ...], like: Tensor) -> Denoiser:
        return Calibrated(self.denoiser.along(times, like), self.log_snrs, self.log_ratios)

    def variance(self, like: Tensor, t: Time) -> Tensor:
        """V of each example, (b, 1, …) or (b, ...), of the type of ``like``."""
        level = self.process.schedule.level(t)
        lam, knots = level.log_snr.clamp(self.log_snrs[0], self.log_snrs[-1]), self.log_snrs
        right = torch.searchsorted(knots, lam.contiguous()).clamp(1, len(knots) - 1)
        part = (lam - knots[right - 1]) / (knots[right] - knots[right - 1])
        low, high = self.log_ratios[right - 1], self.log_ratios[right]
        r = low + part.reshape(-1, *(1,) * (low.ndim - 1)) * (high - low)
        if r.ndim == 1:
            return at(unit_variance(level) * r.exp(), like)
        return at(unit_variance(level), like) * r.exp().to(like)

    def profile(self) -> EntropyProfile:
        """The entropy's rate at each level, which under Gaussian noise is ½ SNR times the mean of V over elements."""
        ratios = (
            self.log_ratios.flatten(1).exp().mean(1) if self.log_ratios.ndim > 1 else self.log_ratios.exp()
        )
        rates = unit_rate(self.log_snrs) * ratios
        return EntropyProfile(tuple(self.log_snrs.tolist()), tuple(rates.tolist()))

    def tensors(self) -> dict[str, Tensor]:
        """The curve, to be saved and given to `Calibrated` again."""
        return {"log_snrs": self.log_snrs, "log_ratios": self.log_ratios}


Batch = tuple[Tensor, Mapping[str, Tensor]]


@torch.no_grad()
def calibrate(denoiser: Denoiser, batches: Sequence[Batch], seeds: Seeds, levels: int = LEVELS) -> Calibrated:
    """The variances of eq. 1, measured on data.

    A value per element is kept where it wins on the second half of the batches what it learned on the first: ``GAIN``
    nats per element, in the mean over levels, of the Gaussian log-likelihood of x given x_t.

    Args:
        batches: pairs of states (b, ...) and conditions; two or more, or there is nothing to compare on.
        seeds: one for each example of the largest batch.
    """
    process = denoiser.process
    assert isinstance(process, AdditiveProcess)
    schedule = process.schedule
    ends = schedule.log_snr(torch.tensor([1.0, 0.0], dtype=torch.float64)).clamp(*RANGE)
    log_snrs = torch.linspace(float(ends[0]), float(ends[1]), levels, dtype=torch.float64)
    times = schedule.time_of(log_snrs).clamp(0, 1)
    v1 = unit_variance(schedule.level(times))
    squares, counts = [], []  # E (x - x̂)²/v₁ by half, level and element; examples
    for half in (batches[0::2], batches[1::2] or batches):
        rows = []
        for i, t in enumerate(times):
            total, count = torch.zeros(()), 0
            for j, (x, cond) in enumerate(half):
                here = as_time(t, len(x))
                x_t = process.corrupt(x, here, seeds[: len(x)].fold(i, j))
                off = (x - denoiser(x_t, here, **cond).mean).double().square().sum(0)
                total, count = total.to(off) + off, count + len(x)
            rows.append((total / count / v1[i].to(total)).cpu())
        squares.append(torch.stack(rows).clamp_min(SMALLEST))
        counts.append(count)
    both = (squares[0] * counts[0] + squares[1] * counts[1]) / sum(counts)
    if batches[1::2] and _gain(squares[0], counts[0], squares[1]) > GAIN:
        return Calibrated(denoiser, log_snrs, _each(both, sum(counts)).log())
    return Calibrated(denoiser, log_snrs, _mean(both).flatten().log())


def _mean(squares: Float[Tensor, "m ..."]) -> Float[Tensor, "m ..."]:
    return squares.flatten(1).mean(1).reshape(-1, *(1,) * (squares.ndim - 1))


def _each(squares: Float[Tensor, "m ..."], count: int) -> Float[Tensor, "m ..."]:
    """A variance per element, as if one more example with the mean's had been seen: a pixel that was the same in all
    of them may be another in the next."""
    return (squares * count + _mean(squares)) / (count + 1)


def _gain(fitted: Tensor, count: int, other: Tensor) -> float:
    """What a variance per element saves over one for all, both fitted on one half and tried on the other."""

    def nats(variance: Tensor) -> Tensor:
        return (variance.log() + other / variance).mean() / 2

    return float(nats(_mean(fitted)) - nats(_each(fitted, count)))


def tweedie_covariance(denoiser: Denoiser, x_t: Tensor, t: Time, **cond: Tensor) -> Float[Tensor, "b d d"]:
    """Eq. 3 in full, for states of d elements, at the price of d backward passes: a reference for small states."""
    assert isinstance(denoiser.process, GaussianProcess)
    level = denoiser.process.schedule.level(t)
    with torch.inference_mode(False), torch.enable_grad():
        x_t = x_t.clone().requires_grad_()
        mean = denoiser(x_t, t, **cond).mean.flatten(1)
        rows = [torch.autograd.grad(m.sum(), x_t, retain_graph=True)[0].flatten(1) for m in mean.unbind(1)]
    return at(level.sigma.square() / level.alpha, x_t.flatten(1))[..., None] * torch.stack(rows, 1)
