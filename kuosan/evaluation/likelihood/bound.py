"""The evidence bound of any bridged process, in its three terms.

    -log p(x) ≤ KL(q(x_1 | x) ‖ p(x_1))                        prior
              + ∫_{t0}^{1} r(x, t) dt,  or Σ_i KL_i             diffusion
              + E[ -log p(x | x_{t0}) ]                         reconstruction                (1)

in nats, per example (Kingma et al. 2021, eq. 11 for continuous time; Ho et al. 2020, eq. 5 for n steps). Rates r,
steps KL_i and the prior are the process's own closed forms. What is random (the times and the noise) is unbiased, so
a mean over examples is an unbiased estimate of a bound, and its standard error holds all that chance did to it.

Tokens reach t = 0 as themselves: their reconstruction is zero, and so is their prior where no token survives.
Gaussian states never do. There the last step is a decoder, a normal law around the denoiser's mean with a multiple of
the variance that it states (or, if it states none, of that of data of unit variance). Data of whole levels, such as
8-bit pictures, have probabilities: the normal law's mass between the midpoints of neighbouring levels (Ho et al. 2020,
eq. 13). Any t0 and any multiple give a bound; `plan` chooses those that are best on other items.

Discrete levels belong to states in [-1, 1]: ``level`` is their distance, 2/255 for 8 bits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from kuosan.core.random import Seeds
from kuosan.core.shapes import State, as_time, batch_of
from kuosan.denoisers.base import Denoiser
from kuosan.errors import UserError
from kuosan.evaluation.likelihood.checks import checked
from kuosan.evaluation.likelihood.decoder import Decoder, fit_decoder
from kuosan.evaluation.likelihood.times import CELLS, Times, edges, surplus
from kuosan.processes.discrete import DiscreteProcess

Batch = tuple[State, Mapping[str, Tensor]]
MOST_STEPS = 64  # of a finite bound that are all worked out; of more, a stratified choice


@dataclass(frozen=True)
class Terms:
    """Eq. 1 in nats per example, each (b,) in float64 on the CPU.

    ``sweeps`` are two independent estimates of the diffusion term, whose mean it is, and ``scatter`` the variance
    of a single time's estimate of it; both are empty for a finite number of steps.
    """

    prior: Float[Tensor, " b"]
    diffusion: Float[Tensor, " b"]
    reconstruction: Float[Tensor, " b"]
    sweeps: Float[Tensor, "2 b"]
    scatter: Float[Tensor, " b"]

    @property
    def total(self) -> Float[Tensor, " b"]:
        return self.prior + self.diffusion + self.reconstruction

    @classmethod
    def join(cls, parts: Sequence[Terms]) -> Terms:
        """The terms of all examples."""
        return cls(*(torch.cat([getattr(p, name) for p in parts], -1) for name in cls.__dataclass_fields__))


@torch.no_grad()
def bound(
    denoiser: Denoiser,
    x: State,
    seeds: Seeds,
    times: Times,
    *,
    count: int = 16,
    level: float | None = None,
    **cond: Tensor,
) -> Terms:
    """Eq. 1 in continuous time.

    Args:
        x: data (b, ...).
        times: at which the rate is asked for, see `plan`; t0 is its first edge.
        count: calls of the denoiser per example for the diffusion term, even.
        level: distance of two levels of the data; None is a density.

    Raises:
        UserError: data off their levels or out of range, or a number that is not finite.
    """
    process = checked(denoiser, x, level)
    if count < 2 or count % 2:
        raise ValueError(f"the bound takes an even number of times per example, not {count}")
    sweeps, values = [], []
    for sweep in range(2):
        seeds_here = seeds.fold("bound", sweep)
        found = []
        for k, (t, weight, slope) in enumerate(times.draw(seeds_here, count // 2)):
            x_t = process.corrupt(x, t, seeds_here.fold(k))
            rate = process.elbo_rate(x, x_t, denoiser(x_t, t, **cond), t).cpu().double()
            found.append((rate - slope * surplus(process, x, x_t, t)) * weight)
        values += found
        sweeps.append(torch.stack(found).mean(0))
    batch = batch_of(x)
    prior = process.prior_divergence(x, as_time(times.edges[-1], batch)).cpu().double()
    decoded = Decoder(denoiser, times.factor)(x, float(times.edges[0]), seeds, level, cond)
    each = torch.stack(sweeps)
    return _finite(Terms(prior, each.mean(0), decoded, each, torch.stack(values).var(0)))


@torch.no_grad()
def finite_bound(
    denoiser: Denoiser,
    x: State,
    seeds: Seeds,
    grid: Float[Tensor, "n+1"],
    *,
    level: float | None = None,
    decoder: Decoder | None = None,
    most: int = MOST_STEPS,
    **cond: Tensor,
) -> Terms:
    """Eq. 1 for ancestral sampling along ``grid``, falling from 1 to 0: n calls of the denoiser, the last of which
    decodes, with ``decoder`` where one is given. Of more than ``most`` steps a stratified choice is worked out.

    Raises:
        UserError: as `bound`.
    """
    process = checked(denoiser, x, level)
    batch, grid = batch_of(x), grid.double().cpu()
    steps = len(grid) - 1 if isinstance(process, DiscreteProcess) else len(grid) - 2
    taken = min(steps, most)
    diffusion = torch.zeros(batch, dtype=torch.float64)
    starts = torch.zeros(batch, dtype=torch.float64) if taken == steps else seeds.fold("steps").uniforms()
    for k in range(taken):
        i = ((k + starts) / taken * steps + 1e-9).long().clamp_max(steps - 1)
        t, s, here = grid[i], grid[i + 1], seeds.fold("finite", k)
        x_t = process.corrupt(x, t, here)
        found = process.step_divergence(x, x_t, denoiser(x_t, t, **cond), t, s)
        diffusion += found.cpu().double() * (steps / taken)
    prior = process.prior_divergence(x, as_time(grid[0], batch)).cpu().double()
    last = 0.0 if isinstance(process, DiscreteProcess) else float(grid[-2])
    decoded = (decoder or Decoder(denoiser))(x, last, seeds, level, cond)
    none = torch.empty(0, batch, dtype=torch.float64)
    return _finite(Terms(prior, diffusion, decoded, none, diffusion.new_full((batch,), torch.nan)))


@torch.no_grad()
def plan(
    denoiser: Denoiser,
    batches: Sequence[Batch],
    seeds: Seeds,
    *,
    level: float | None = None,
    cells: int = CELLS,
) -> Times:
    """The times to ask at, and t0, chosen on other data than those to be measured.

    Args:
        batches: states and conditions, a few hundred examples in all.
        seeds: one for each example of the largest batch. cells: to choose from.
    """
    process = checked(denoiser, batches[0][0], level)
    even = Times.even(edges(process, cells))
    cells, lows, widths = len(even.mass), even.edges[:-1], even.edges.diff()
    rates, extras = [], []
    for j, (x, cond) in enumerate(batches):
        here, batch = seeds[: batch_of(x)].fold("plan", j), batch_of(x)
        found, more = torch.zeros(cells, batch).double(), torch.zeros(cells, batch).double()
        for cell in range(cells):
            t = lows[cell] + here.fold(cell).uniforms().clamp(1e-6, 1 - 1e-6) * widths[cell]
            x_t = process.corrupt(x, t, here.fold(cell))
            found[cell] = process.elbo_rate(x, x_t, denoiser(x_t, t, **cond), t).cpu().double()
            more[cell] = surplus(process, x, x_t, t)
        rates.append(found)
        extras.append(more)
    rate, extra = torch.cat(rates, 1), torch.cat(extras, 1)
    slope = (rate * extra).sum(1) / extra.square().sum(1).clamp_min(
        1e-300
    )  # E h = 0, so there is no constant
    times = even.weighed((rate - slope[:, None] * extra).square().mean(1).sqrt(), slope)
    if isinstance(process, DiscreteProcess) or level is None:
        return times  # a density is bounded best by the smallest t0, or has no bound from below
    tail = (rate.mean(1) * widths).flip(0).cumsum(0).flip(0)  # of the diffusion term, from each cell on
    options = []
    for cell in range(0, cells // 2, 2):
        decoder, nats = fit_decoder(denoiser, batches, float(lows[cell]), seeds, level)
        options.append((float(tail[cell]) + nats, cell, decoder.factor))
    _, cell, factor = min(options)
    return replace(times.after(cell), factor=factor)


def saving(terms: Terms, count: int) -> tuple[float, float]:
    """(independent, stratified): the variance in nats² that ``count`` times per example leave in the diffusion term,
    were they drawn independently from the same density, and as they are drawn."""
    independent = terms.scatter.mean() / count
    stratified = (terms.sweeps[0] - terms.sweeps[1]).square().mean() / 4
    return float(independent), float(stratified)


def _finite(terms: Terms) -> Terms:
    wrong = (~torch.isfinite(terms.total)).nonzero()
    if len(wrong):
        raise UserError(
            f"the bound of {len(wrong)} of {len(terms.total)} examples (the first: number {int(wrong[0])}) is not a "
            "finite number: the model's outputs are not, or its prior excludes data; train it again or leave "
            "--likelihood away"
        )
    return terms
