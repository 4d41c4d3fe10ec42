"""The last step of a Gaussian model: a state with a little noise left becomes data.

A normal law around the denoiser's mean with a factor times the variance that the denoiser states. Among data of whole
levels the factor is seldom one: errors have heavier tails than a normal law, a wider one forgives them, and at the
lowest and highest level (black and white) whatever lies beyond counts as well. `fit_decoder` tries a few.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from kuosan.codecs.likelihood import distortion
from kuosan.core.posteriors import Gaussian, Joint, Posterior
from kuosan.core.random import Seeds
from kuosan.core.shapes import State, Time, as_time, batch_of
from kuosan.denoisers.base import Denoiser
from kuosan.denoisers.calibrated import unit_variance
from kuosan.evaluation.likelihood.times import surplus
from kuosan.processes.base import Bridged
from kuosan.processes.discrete import DiscreteProcess
from kuosan.processes.gaussian import GaussianProcess
from kuosan.processes.joint import JointProcess

Batch = tuple[State, Mapping[str, Tensor]]
FACTORS = tuple(2.0 ** (k / 2) for k in range(-4, 9))  # of the variance


@dataclass(frozen=True)
class Decoder:
    """p(x | x_t) for the last t of a way."""

    denoiser: Denoiser
    factor: float = 1.0

    def __call__(
        self, x: State, t0: float, seeds: Seeds, level: float | None, cond: Mapping[str, Tensor]
    ) -> Float[Tensor, " b"]:
        """E[-log p(x | x_t0)], an unbiased estimate of it, in nats per example."""
        process, q, x_t, t = _asked(self.denoiser, x, t0, seeds, cond)
        if q is None:
            return torch.zeros(batch_of(x), dtype=torch.float64)
        nats = _nats(process, x, x_t, q, t, level, self.factor)
        if level is None and isinstance(process, GaussianProcess):
            # Of a density next to no noise the surprise is the squared noise itself, whose mean is known.
            nats = nats + surplus(process, x, x_t, t) / process.schedule.log_snr_rate(t)
        return nats


@torch.no_grad()
def fit_decoder(
    denoiser: Denoiser, batches: Sequence[Batch], t0: float, seeds: Seeds, level: float | None
) -> tuple[Decoder, float]:
    """The best of `FACTORS` on these items, and the nats that it takes them. A density is left as it is."""
    factors = (1.0,) if level is None else FACTORS
    totals, count = [0.0] * len(factors), 0
    for j, (x, cond) in enumerate(batches):
        process, q, x_t, t = _asked(denoiser, x, t0, seeds[: batch_of(x)].fold(j), cond)
        count += batch_of(x)
        if q is not None:
            for i, factor in enumerate(factors):
                totals[i] += float(_nats(process, x, x_t, q, t, level, factor).sum())
    best = min(range(len(factors)), key=totals.__getitem__)
    return Decoder(denoiser, factors[best]), totals[best] / count


def _asked(
    denoiser: Denoiser, x: State, t0: float, seeds: Seeds, cond: Mapping[str, Tensor]
) -> tuple[Bridged, Posterior | None, State, Time]:
    """What the denoiser says of data at t0; nothing where they are themselves there."""
    process, t = denoiser.process, as_time(t0, batch_of(x))
    assert isinstance(process, Bridged)
    if isinstance(process, DiscreteProcess) and t0 == 0:
        return process, None, x, t
    x_t = process.corrupt(x, t, seeds.fold("decode"))
    return process, denoiser(x_t, t, **cond), x_t, t


def _nats(
    process: Bridged, x: State, x_t: State, q: Posterior, t: Time, level: float | None, factor: float
) -> Float[Tensor, " b"]:
    """-log p(x | x_t)."""
    if isinstance(process, JointProcess):
        assert isinstance(q, Joint)
        parts = process.parts.items()
        return torch.stack([_nats(p, x[n], x_t[n], q.parts[n], t, level, factor) for n, p in parts]).sum(0)
    if isinstance(process, GaussianProcess):
        unit = unit_variance(process.schedule.level(t)).reshape(-1, *(1,) * (x.ndim - 1))
        variance = q.variance.cpu().double() if isinstance(q, Gaussian) else unit.expand(x.shape)
        return distortion(x, q.mean, (factor * variance).clamp_min(1e-30).log(), level)
    return process.step_divergence(x, x_t, q, t, torch.zeros_like(t)).cpu().double()
