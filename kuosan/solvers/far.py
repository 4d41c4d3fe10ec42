"""The estimate that samples share: what a model says of noise alone.

    lim x̂(y, ρ) = E[x | c]      for ρ → ∞                                                        (1)

is the mean of the data under the conditions c, whatever the noise. A sampler of few calls gains by knowing it, and
learned ones spend their first call there where they may. It need not be made for each sample: one example of each
condition, on a noise that is always the same, answers for all of them.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Int64
from torch import Tensor

from kuosan.core.posteriors import Point, Posterior
from kuosan.core.random import Seeds
from kuosan.core.shapes import Time, at
from kuosan.denoisers.base import Denoiser
from kuosan.processes.additive import AdditiveProcess

SEED = 1


def kinds(cond: Mapping[str, Tensor], count: int) -> tuple[Int64[Tensor, " m"], Int64[Tensor, " b"]]:
    """One example of every combination of conditions (b, …), and which of these each of ``count`` examples has."""
    rows = torch.cat(
        [torch.zeros(count, 1), *(c.detach().cpu().double().reshape(count, -1) for c in cond.values())], 1
    )
    _, place = torch.unique(rows, dim=0, return_inverse=True)
    first = torch.full((int(place.max()) + 1,), count).scatter_reduce(0, place, torch.arange(count), "amin")
    return first, place


class Far(Denoiser):
    """Eq. 1 of a denoiser that is `alone`, for times of noise alone; states say only what they look like."""

    process: AdditiveProcess

    def __init__(self, denoiser: Denoiser):
        super().__init__()
        assert isinstance(denoiser.process, AdditiveProcess) and denoiser.alone
        self.process, self.denoiser = denoiser.process, denoiser

    def forward(self, x_t: Tensor, t: Time, **cond: Tensor) -> Posterior:
        first, place = kinds(cond, len(x_t))
        sigma = self.process.schedule.sigma
        noise = self.process.prior(x_t[first], Seeds.of(SEED, [0] * len(first)))
        noise = noise * at(sigma(t[first]) / sigma(torch.ones_like(t[first])), noise)
        q = self.denoiser(noise, t[first], **{name: c[first] for name, c in cond.items()})
        return Point(q.mean[place])
