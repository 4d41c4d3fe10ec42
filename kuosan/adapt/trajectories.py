"""Students of few steps, by regression on their teacher's trajectories.

The deterministic flow of a teacher takes each noise z to one datum x(z). A student of one step learns that map,

    L(θ) = E_z h(f_θ(z, t₁) - x(z)),      h(r) = 1/d Σ_i √(r_i² + c²) - c                      (1)

(Luhman & Luhman 2021, there with squares): regression of a function, not of a mean over many data. What a small
network cannot tell apart it still averages, and the pseudo-Huber norm h averages less: a median keeps a stroke or
leaves it out, where a mean draws it grey. A student of K steps learns the end of the trajectory from K of its points,

    L(θ) = E_z 1/K Σ_k h(f_θ(x_{t_k}(z), t_k) - x(z)),      t₁ > t₂ > … > t_K                  (2)

which all come from the same walk. It is sampled like a consistency model (Song et al. 2023, alg. 1; `Redraw`): estimate
the end, corrupt the estimate to t_2 with fresh noise, estimate again. At t_k this sees α_k x + σ_k ε, whose law is
that of x_{t_k}(z) where the teacher is right.

The student starts at the teacher's weights, which know the answer for the last of these times already, nearly. There
is no second network, no adversary and nothing to balance. What it costs is the walks: about ten calls of the teacher
per pair, none of them with a gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from kuosan.core.random import Seeds
from kuosan.core.schedules import Schedule
from kuosan.core.shapes import Time
from kuosan.denoisers.base import Denoiser
from kuosan.solvers import Solver, trajectory
from kuosan.training.objective import Objective
from kuosan.training.timing import Timing

C = 0.02  # of eq. 1, in states: 2.5 of 256 levels
SAME = 1e-9  # times closer than this are one


def through(grid: Float[Tensor, " n+1"], times: Sequence[float]) -> tuple[Tensor, list[int]]:
    """A falling grid that stops at ``times`` too, and their places on it.

    Args:
        times: each between the ends of ``grid``, both included.
    """
    if not all(float(grid[-1]) <= t <= float(grid[0]) for t in times):
        raise ValueError(f"the times {tuple(times)} are not all on a grid from {grid[0]:g} to {grid[-1]:g}")
    own = [t for t in grid.tolist() if all(abs(t - other) > SAME for other in times)]
    merged = sorted([*own, *times], reverse=True)
    return torch.tensor(merged, dtype=torch.float64), [merged.index(t) for t in times]


@torch.no_grad()
def trajectories(
    teacher: Denoiser,
    solver: Solver[Any],
    grid: Float[Tensor, " n+1"],
    times: Sequence[float],
    z: Tensor,
    seeds: Seeds,
    **cond: Tensor,
) -> Float[Tensor, "b k+1 ..."]:
    """The points x_t of each trajectory at ``times``, and then its end.

    Args:
        solver: one that draws nothing, or eq. 1 has no answer.
        grid: falling times, from the prior's to the data's.
        z: the states at ``grid[0]``, where ``times`` may begin.
    """
    if solver.draws:
        raise ValueError(
            f"{type(solver).__name__} draws noise on its way, so that no end belongs to a beginning"
        )
    merged, places = through(grid, times)
    points = [z]
    for step in trajectory(teacher, solver, merged, z, seeds, **cond):
        points.append(step.x)
    return torch.stack([points[i] for i in (*places, -1)], 1)


@dataclass(frozen=True)
class ListedTiming(Timing):
    """A few times, each as often as any other."""

    times: tuple[float, ...] = ()

    def places(self, u: Time) -> Tensor:
        """Which of them each quantile means."""
        return (u * len(self.times)).long().clamp_max(len(self.times) - 1)

    def times_of(self, u: Time) -> Time:
        """Those times."""
        return torch.tensor(sorted(self.times), dtype=torch.float64)[self.places(u)]

    def quantile(self, schedule: Schedule, u: Time) -> Time:
        return self.times_of(u)

    def density(self, schedule: Schedule, u: Time) -> Time:
        """The probability of each: a few points have no density."""
        return torch.full_like(u, 1 / len(self.times))


@dataclass(frozen=True)
class Regression(Objective):
    """Eq. 2. Its states are what `trajectories` gives, (b, K+1, ...), at the times of ``timing``, falling."""

    timing: ListedTiming
    c: float = C

    def at_quantiles(
        self, denoiser: Denoiser, x: Tensor, u: Time, seeds: Seeds, **cond: Tensor
    ) -> Float[Tensor, " b"]:
        t = self.timing.times_of(u)
        place = len(self.timing.times) - 1 - self.timing.places(u)  # the states' times fall
        x_t, end = x[torch.arange(len(x), device=x.device), place.to(x.device)], x[:, -1]
        r = denoiser(x_t, t, **cond).mean - end
        return ((r.square() + self.c**2).sqrt() - self.c).flatten(1).mean(1)
