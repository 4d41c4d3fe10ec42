"""At which times to ask a bound for its rate.

The diffusion term is an integral over time, ∫ r(t) dt, estimated at K random times per example. Three things keep
its variance low, and none of them moves its expectation:

    density    p(t) ∝ √E r(t)², measured on other data, so that r(t)/p(t) hardly depends on t      (1)
    strata     t_k = P⁻¹((k + u)/K), one u per example: one time in every Kth of the mass          (2)
    control    r - b(t) h, where h has mean zero whatever the data and b is r's regression on it,
               measured on other data                                                              (3)

(2) are the antithetic times of Kingma et al. 2021, appendix I, for a single example. In (3) h is how much more
noise than on average was drawn: at high log-SNR the Gaussian rate is the squared noise and little else, and a text
with more masks than usual costs more. Times run over cells whose edges lie even in log-SNR, where the Gaussian rate
is tame (Kingma et al. 2021, sec. 5.1), or even in t for tokens.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import singledispatch

import torch
from jaxtyping import Float
from torch import Tensor

from kuosan.core.random import Seeds
from kuosan.core.shapes import State, Time, at, per_example
from kuosan.processes.base import Bridged
from kuosan.processes.discrete import DiscreteProcess, Masked
from kuosan.processes.gaussian import GaussianProcess
from kuosan.processes.joint import JointProcess

CELLS = 64
LEAST = 0.1  # of the mass is spread evenly over the cells: what was measured may be wrong
NOISIEST, CLEANEST = -14.0, 14.0  # log-SNRs between which float32 states still tell signal from noise


@dataclass(frozen=True)
class Times:
    """A density of times, constant within cells.

    Args:
        edges: rising times (m+1,); the first is t0, where data are read off, the last where sampling starts.
        mass: of each cell (m,), summing to one.
        control: b of eq. 3 in each cell (m,).
        factor: of the decoder's variance at t0.
    """

    edges: Float[Tensor, "m+1"]
    mass: Float[Tensor, " m"]
    control: Float[Tensor, " m"]
    factor: float = 1.0

    @classmethod
    def even(cls, edges: Float[Tensor, "m+1"]) -> Times:
        """The same mass in every cell."""
        cells = len(edges) - 1
        even = torch.full((cells,), 1 / cells, dtype=torch.float64)
        return cls(edges, even, torch.zeros_like(even))

    def weighed(self, rates: Float[Tensor, " m"], control: Float[Tensor, " m"]) -> Times:
        """Eq. 1 for root mean square rates, one per cell."""
        share = rates * self.edges.diff()
        mass = (1 - LEAST) * share / share.sum() + LEAST / len(share) if bool(share.sum() > 0) else self.mass
        return replace(self, mass=mass, control=control)

    def after(self, cell: int) -> Times:
        """Without the cells before this one."""
        mass = self.mass[cell:]
        return replace(self, edges=self.edges[cell:], mass=mass / mass.sum(), control=self.control[cell:])

    def at(self, u: Float[Tensor, " b"]) -> tuple[Time, Time, Time]:
        """t = P⁻¹(u), 1/p(t) and b(t), for u in [0, 1)."""
        ends = self.mass.cumsum(0)
        cell = torch.searchsorted(ends, u * ends[-1], right=True).clamp_max(len(ends) - 1)
        part = (u * ends[-1] - (ends[cell] - self.mass[cell])) / self.mass[cell]
        width = self.edges.diff()[cell]
        t = self.edges[cell] + part.clamp(1e-9, 1 - 1e-9) * width
        return t, width / self.mass[cell], self.control[cell]

    def draw(self, seeds: Seeds, count: int) -> list[tuple[Time, Time, Time]]:
        """Eq. 2: ``count`` stratified times per example, as `at` gives them."""
        u = seeds.uniforms()
        return [self.at((k + u) / count) for k in range(count)]


@singledispatch
def surplus(process: Bridged, x: State, x_t: State, t: Time) -> Time:
    """h of eq. 3, in the unit of the rate."""
    return torch.zeros_like(t)


@surplus.register
def _(process: GaussianProcess, x: State, x_t: State, t: Time) -> Time:
    level = process.schedule.level(t)
    eps = (x_t - at(level.alpha, x) * x) / at(level.sigma, x)
    off = per_example(eps.square()).cpu().double() - x[0].numel()
    return -process.schedule.log_snr_rate(t) * off / 2


@surplus.register
def _(process: Masked, x: State, x_t: State, t: Time) -> Time:
    hidden = (x_t == process.size).double()
    return per_example(process.hazard(t, hidden) * (hidden - 1 + process.keep_at(t, hidden))).cpu()


@surplus.register
def _(process: JointProcess, x: State, x_t: State, t: Time) -> Time:
    each = [surplus(part, x[name], x_t[name], t) for name, part in process.parts.items()]
    return torch.stack(each).sum(0)


@singledispatch
def edges(process: Bridged, cells: int = CELLS) -> Float[Tensor, "m+1"]:
    """Times between which a process's rate changes little, from t0 up to where sampling starts."""
    raise TypeError(f"{type(process).__name__} has no bound")


@edges.register
def _(process: GaussianProcess, cells: int = CELLS) -> Tensor:
    schedule = process.schedule
    noisy, clean = schedule.log_snr(torch.tensor([1.0, 0.0], dtype=torch.float64)).tolist()
    levels = torch.linspace(min(clean, CLEANEST), max(noisy, NOISIEST), cells + 1, dtype=torch.float64)
    out = schedule.time_of(levels).clamp(0, 1)
    if noisy >= NOISIEST:
        out[-1] = 1.0  # not one rounding beside it
    if clean <= CLEANEST:
        out[0] = 0.0
    return out.detach()


@edges.register
def _(process: DiscreteProcess, cells: int = CELLS) -> Tensor:
    return torch.linspace(0, 1, cells + 1, dtype=torch.float64)


@edges.register
def _(process: JointProcess, cells: int = CELLS) -> Tensor:
    each = [edges(part, cells) for part in process.parts.values()]
    low, high = max(float(e[0]) for e in each), max(float(e[-1]) for e in each)
    inner = torch.cat(each).unique()
    ends = torch.tensor([low, high], dtype=torch.float64)
    return torch.cat([ends[:1], inner[(inner > low) & (inner < high)], ends[1:]])
