"""Noise levels to start from: stock grids over several ranges, and two that look at the problem.

A grid here is k + 1 falling ρ; the last is where the schedule ends. Stock grids are fixed by a rule and by where they
begin and end, and the range matters more than the rule: at five calls half of a grid from 80 to 0.005 is spent
where nothing is decided.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from kuosan.adapt.controls import of_solver
from kuosan.adapt.flow import Flow, time_of
from kuosan.adapt.rollout import Pairs, walk
from kuosan.solvers import AdamsBashforth, DPMSolverPP

Levels = Float64[Tensor, " k+1"]
STARTS, STOPS = (80.0, 30.0, 12.0), (0.005, 0.02, 0.06, 0.15)
NEAR = (12.0, 6.0, 3.0)  # starts where the data's mean is known
POWERS = (2.0, 3.5, 7.0)


def stock_grids(flow: Flow, k: int, starts: Sequence[float] = STARTS) -> Iterator[tuple[str, Levels]]:
    """Grids by name: even in log ρ, in ρ^(1/power), and in t."""
    end = torch.tensor([flow.rho_end], dtype=torch.float64)
    part = torch.arange(k, dtype=torch.float64) / max(1, k - 1)
    stops = sorted({s for s in (*STOPS, flow.last, 2 * flow.last) if s > flow.rho_end and s >= flow.last})
    for start in sorted({min(s, flow.rho_start) for s in starts}, reverse=True):
        for stop in stops:
            yield _name("logsnr", start, stop), torch.cat([start * (stop / start) ** part, end])
            for power in POWERS:
                roots = start ** (1 / power), stop ** (1 / power)
                inner = (roots[0] + part * (roots[1] - roots[0])) ** power
                yield _name(f"karras:{power:g}", start, stop), torch.cat([inner, end])
        first = time_of(flow.schedule, torch.tensor(math.log(start)))
        times = first * (1 - torch.arange(k, dtype=torch.float64) / k)
        inner = (-flow.schedule.log_snr(times) / 2).exp().detach()
        if inner[-1] >= flow.last:
            yield f"uniform from {start:g}", torch.cat([inner, end])


def _name(rule: str, start: float, stop: float) -> str:
    return f"{rule} from {start:g} to {stop:g}"


def straightest(
    flow: Flow,
    pairs: Pairs,
    k: int,
    *,
    fine: int = 40,
    factor: float = 1.15,
    w: float | None = None,
    piece: int = 64,
) -> Levels:
    """Times by dynamic programming over the curvature of these pairs' paths (Chen et al. 2024, "GITS").

    One fine walk gives states y_i and directions d_i. A step from i to j ends y_i + (ρ_j - ρ_i) d_i, whose distance
    from the chord of the whole path is compared with the true point's; the sum of these deviations over a grid is
    least for the grid that is returned. Their coefficient for what is still ahead is ``factor``.
    """
    start, stop = min(80.0, flow.rho_start), flow.stop(0.005)
    roots = torch.linspace(start ** (1 / 7), stop ** (1 / 7), fine, dtype=torch.float64)
    rho = torch.cat([roots**7, torch.tensor([flow.rho_end], dtype=torch.float64)])
    controls = of_solver(AdamsBashforth(2), rho)
    walked = walk(flow, controls if w is None else controls.guided(w), pairs, piece)
    y = torch.stack([s.flatten(1) for s in (*walked.states, walked.end)])
    slopes = torch.stack(
        [
            (s - m).flatten(1) / r
            for s, m, r in zip(walked.states, walked.estimates, rho.tolist(), strict=False)
        ]
    )
    chord = y[-1] - y[0]
    chord = chord / chord.norm(dim=1, keepdim=True)

    def off(p: Tensor) -> Tensor:
        away = y[-1] - p
        return (away - (away * chord).sum(1, keepdim=True) * chord).norm(dim=1)

    true = [off(p) for p in y]
    cost = torch.full((fine + 1, fine + 1), torch.inf, dtype=torch.float64)
    for i in range(fine):
        for j in range(i + 1, fine + 1):
            cost[i, j] = (off(y[i] + float(rho[j] - rho[i]) * slopes[i]) - true[j]).mean()
    value, choices = cost[:, fine], []
    for _ in range(k - 1):
        total = cost + factor * value[None]
        value, choice = total.min(1)
        choices.append(choice)
    path = [0]
    for choice in reversed(choices):
        path.append(int(choice[path[-1]]))
    return rho[[*path, fine]]


def least_bound(k: int, start: float, stop: float, end: float = 0.0) -> Levels:
    """Times that make a bound on the sample's error least, without any call of the network (Xue et al. 2024, eq. 13).

    At ``stop`` the sample is Σ w_j m_j + A z with the weights of an exponential integrator of order three; the error
    of a data estimate m_j is taken to grow like ρ_j², and Σ |w_j| ρ_j² is made least over the grid.
    """
    from scipy.optimize import minimize

    span = math.log(start / stop)

    def levels(free: Tensor) -> Levels:
        way = torch.cat([torch.zeros(1, dtype=torch.float64), free.softmax(0).cumsum(0)])
        return (math.log(start) - span * way).exp()

    def bound(free: np.ndarray) -> tuple[float, np.ndarray]:
        steps = torch.from_numpy(free).requires_grad_()
        with torch.enable_grad():
            controls = of_solver(DPMSolverPP(3), levels(steps))
            total = (controls.terms[-1].abs() * (2 * controls.log_rho).exp()).sum().log()
        (slope,) = torch.autograd.grad(total, steps)
        return float(total.detach()), slope.numpy()

    found = minimize(bound, np.zeros(k), jac=True, method="L-BFGS-B", bounds=[(-3, 3)] * k)
    return torch.cat([levels(torch.from_numpy(found.x))[:-1], torch.tensor([end], dtype=torch.float64)])
