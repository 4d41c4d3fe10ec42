"""The churn of a stochastic sampler as a control sequence.

A walk with fresh noise has no end of its own to be compared with, only a law. So the churn η along the calls is chosen
by the energy distance (Székely & Rizzo 2013) between samples and real items,

    E = 2 E|X - Y| - E|X - X'| - E|Y - Y'|,     0 only where both laws are one,                 (1)

which no evaluation of samples uses. η is linear in log ρ between three knots, and a simplex search (Nelder & Mead 1965)
over them sees the same noises each time, so that it compares curves and not draws. What it finds stands behind the
same guard as all sequences: on other items and other noises it must come before no churn and before the best
constant one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from kuosan.adapt.flow import time_of
from kuosan.core.curves import Piecewise
from kuosan.core.random import Seeds
from kuosan.core.shapes import at
from kuosan.denoisers.base import Denoiser
from kuosan.processes.gaussian import GaussianProcess
from kuosan.solvers import SDESolverPP, sample

CONSTANTS = (0.0, 0.25, 0.5, 1.0)
MOST = 2.0  # η at a knot
TURNS = 30  # curves that the search tries


@dataclass(frozen=True)
class Churned:
    """A churn per call, and what it was compared with on held-out items: energy distance and standard error by name.

    rho: (k+1,) of the calls and of the end. eta: (k,).
    """

    rho: Float64[Tensor, " k+1"]
    eta: Float64[Tensor, " k"]
    kept: str
    tried: Mapping[str, tuple[float, float]]
    calls: int


def energy(x: Tensor, y: Tensor) -> tuple[float, float]:
    """Eq. 1 without bias between the rows of ``x`` (n, …) and ``y`` (m, …), and its standard error over ``x``."""
    a, b = x.flatten(1).double(), y.flatten(1).double()
    n, m = len(a), len(b)
    each = 2 * torch.cdist(a, b).mean(1) - torch.cdist(a, a).sum(1) / (n - 1)
    within = float(torch.cdist(b, b).sum() / (m * (m - 1)))
    return float(each.mean()) - within, float(each.std() / n**0.5)


def churn(
    denoiser: Denoiser,
    rhos: Mapping[str, Float64[Tensor, " k+1"]],
    items: tuple[Tensor, Tensor],
    conditions: Callable[[int], Mapping[str, Tensor]],
    seeds: Seeds,
    *,
    n: int = 256,
    turns: int = TURNS,
    tell: Callable[[float], None] = lambda done: None,
) -> Churned:
    """The churn of the calls with which samples come closest to the items.

    Args:
        denoiser: of a Gaussian process. rhos: grids to try, by name.
        items: to learn from, and to choose by; their states (m, …).
        conditions: of so many samples. seeds: one. n: samples drawn for each look. turns: curves that the search tries.

    Raises:
        ValueError: fewer than two items on either side.
    """
    if min(map(len, items)) < 2:
        raise ValueError("an energy distance needs two items or more on either side")
    learn, choose = items
    cond = {k: v.to(learn.device) for k, v in conditions(n).items()}
    calls = 0

    def look(rho: Tensor, eta: Tensor, real: Tensor, name: str) -> tuple[float, float]:
        nonlocal calls
        calls += n * len(eta)
        fresh = Seeds.of(seeds.fold("churn", name).number(), n)
        return energy(draw(denoiser, rho, eta, learn[:1], fresh, cond), real)

    scores = {
        (name, c): look(rho, torch.full((len(rho) - 1,), c).double(), learn, "learn")[0]
        for name, rho in rhos.items()
        for c in CONSTANTS
    }
    name, constant = min(scores, key=scores.__getitem__)
    rho, tried_so_far = rhos[name], 0

    def curve(knots: np.ndarray) -> Tensor:
        place = torch.linspace(0, 2, len(rho) - 1, dtype=torch.float64)
        left = place.floor().clamp_max(1).long()
        values = torch.from_numpy(np.clip(knots, 0.0, MOST))
        return values[left] + (place - left) * (values[left + 1] - values[left])

    def loss(knots: np.ndarray) -> float:
        nonlocal tried_so_far
        tried_so_far += 1
        tell(min(1.0, tried_so_far / turns))
        return look(rho, curve(knots), learn, "learn")[0]

    from scipy.optimize import minimize

    start = np.full(3, constant)
    simplex = np.stack([start, *(start + 0.4 * step for step in np.eye(3))])
    options = {"maxfev": turns, "initial_simplex": simplex, "xatol": 0.02}
    found = minimize(loss, start, method="Nelder-Mead", options=options)
    arms = {"learned": curve(found.x)} | {
        f"η = {c:g}": torch.full((len(rho) - 1,), c).double() for c in CONSTANTS
    }
    tried = {arm: look(rho, eta, choose, "choose") for arm, eta in arms.items()}
    kept = min(tried, key=lambda arm: tried[arm][0])
    return Churned(rho, arms[kept], kept, tried, calls)


@torch.no_grad()
def draw(
    denoiser: Denoiser, rho: Tensor, eta: Tensor, like: Tensor, seeds: Seeds, cond: Mapping[str, Tensor]
) -> Tensor:
    """Samples of SDE-DPM-Solver++(2M) with the churn ``eta`` at each call, from the noise of the first level."""
    process = denoiser.process
    assert isinstance(process, GaussianProcess)
    schedule = process.schedule
    times = torch.cat([time_of(schedule, rho[:-1].log()), torch.zeros(1, dtype=torch.float64)])
    x = process.prior(like[:1].expand(len(seeds), *like.shape[1:]), seeds.fold("prior"))
    ends = schedule.sigma(torch.stack([times[0], torch.ones_like(times[0])]))
    points = sorted(zip(times[:-1].tolist(), eta.tolist(), strict=True))
    solver = SDESolverPP(eta=Piecewise([*points, (1.0, points[-1][1])]))
    parts = []
    for low in range(0, len(x), 64):
        s = slice(low, low + 64)
        part = {k: v[s] for k, v in cond.items()}
        state = x[s] * at(ends[:1] / ends[1:], x)
        parts.append(sample(denoiser, solver, times, state, seeds[s].fold("steps"), **part))
    return torch.cat(parts)
