"""What a model makes of an item once part of it is drowned in noise: the item as the model would have it.

    x_s = α_s x + σ_s ε,      x̂ = the deterministic way from x_s at time s to 0                     (1)
    r = mean of x̂ over k draws of ε,      map = |x − r|                                            (2)

(AnoDDPM, Wyatt et al. 2022; partial noising is SDEdit's, Meng et al. 2022). A model that has only seen healthy items
makes healthy ones of what the noise has hidden, so that (2) is large where an item is not as those were. More noise
forgets larger things, and more of what is rightly there.
"""

from __future__ import annotations

import torch
from torch import Tensor

from kuosan.core.random import Seeds
from kuosan.core.shapes import as_time
from kuosan.denoisers.base import Denoiser
from kuosan.processes.additive import AdditiveProcess
from kuosan.solvers import Solver, sample


def restored(
    denoiser: Denoiser,
    solver: Solver,  # type: ignore[type-arg]
    x: Tensor,
    level: float,
    seeds: Seeds,
    *,
    draws: int = 4,
    steps: int = 10,
    **cond: Tensor,
) -> Tensor:
    """r of equation (2) for each item of ``x``, by ``steps`` steps from time ``level``."""
    process = denoiser.process
    assert isinstance(process, AdditiveProcess)
    grid = torch.linspace(level, 0.0, steps + 1, dtype=torch.float64)
    total = torch.zeros_like(x)
    for j in range(draws):
        here = seeds.fold("draw", j)
        x_t = process.corrupt(x, as_time(level, len(x)).to(x.device), here.fold("noise"))
        total = total + sample(denoiser, solver, grid, x_t, here.fold("steps"), **cond)
    return total / draws
