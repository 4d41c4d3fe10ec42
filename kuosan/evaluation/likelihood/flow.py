"""The likelihood of the probability-flow ODE (Song et al. 2021, sec. 4.3), by steps of stated accuracy.

Any Gaussian process is a walk along a circle: with n = √(α² + σ²), cos φ = α/n and sin φ = σ/n,

    y = x_t/n = cos φ x + sin φ ε,        dy/dφ = (cos φ y - x̂)/sin φ                              (1)

whatever its schedule, so that s = -λ serves as the variable for all of them; as dφ/ds = ½ sin φ cos φ,

    dy/ds = ½ cos φ (cos φ y - x̂),        div = ½ cos φ (d cos φ - tr ∂x̂/∂y)                      (2)
    log p(y_0) = log N(y_1; 0, sin² φ_1) + ∫ div ds    from the least noise to the most            (3)

without a division by the noise anywhere. The trace is exact for small states, and for others the mean of
eᵀ(∂x̂/∂y)e over a few probes e of random signs (Hutchinson 1990), the same ones all along an example's way: (3) stays
without bias. An example's steps hold the error of every element of y, and of the log-density per dimension, to the
tolerance.

Data of whole levels are dequantised first, see `dequantise`. Others are taken for what they are, next to no noise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from kuosan.core.random import Seeds
from kuosan.core.schedules import Schedule
from kuosan.core.shapes import Time, at, per_example
from kuosan.denoisers.base import Denoiser
from kuosan.errors import UserError
from kuosan.evaluation.likelihood.checks import checked
from kuosan.evaluation.likelihood.dequantise import CANDIDATES, NORMAL, Dequantisation
from kuosan.evaluation.likelihood.times import CLEANEST, NOISIEST
from kuosan.processes.gaussian import GaussianProcess
from kuosan.solvers.adaptive import Unreached, integrate

EXACT = 16  # elements of a state up to which the trace is exact, unless a number of probes is given
TOLERANCE = 1e-4
ROUGH = 1e-3  # tolerance enough to compare


@dataclass(frozen=True)
class Flow:
    """-log p(x), or for data of levels a bound on -log P(x), in nats per example (b,).

    ``each`` is it by single probes (p, b), one row where the trace is exact and ``probes`` 0; ``calls`` are the
    denoiser's, per example.
    """

    nats: Float[Tensor, " b"]
    each: Float[Tensor, "p b"]
    calls: Int64[Tensor, " b"]
    probes: int

    @classmethod
    def join(cls, parts: Sequence[Flow]) -> Flow:
        """The values of all examples."""
        nats, each, calls = (torch.cat([getattr(p, n) for p in parts], -1) for n in ("nats", "each", "calls"))
        return cls(nats, each, calls, parts[0].probes)


def flow_likelihood(
    denoiser: Denoiser,
    x: Float[Tensor, "b ..."],
    seeds: Seeds,
    *,
    level: float | None = None,
    dequantisation: Dequantisation = NORMAL,
    probes: int | None = None,
    tolerance: float = TOLERANCE,
    most: int = 4000,
    **cond: Tensor,
) -> Flow:
    """Eq. 3 of each example.

    Args:
        x: data (b, ...), on the denoiser's device.
        level: distance of two levels of the data; None is a density.
        dequantisation: of data with levels.
        probes: of the trace; 0 is the exact trace, at a backward pass per element; None chooses by the size.
        tolerance: error allowed in a step, per element.
        most: calls per example.

    Raises:
        UserError: a process without this flow, data out of range, or a tolerance that cannot be met.
    """
    process = checked(denoiser, x, level)
    if not isinstance(process, GaussianProcess):
        raise UserError(
            f"a {type(process).__name__} has no probability-flow ODE, only a bound: leave the flow's likelihood away"
        )
    schedule, size, batch = process.schedule, x[0].numel(), len(x)
    noisy, clean = schedule.log_snr(torch.tensor([1.0, 0.0], dtype=torch.float64)).tolist()
    start, stop = -min(clean, CLEANEST), -max(noisy, NOISIEST)
    data, log_q = x.cpu().double(), torch.zeros(batch, dtype=torch.float64)
    if level is not None:
        start = max(start, 2 * math.log(dequantisation.ratio * level))
        data, log_q = dequantisation(x, level, seeds.fold("dequantise"))
    probes = (0 if size <= EXACT else 1) if probes is None else probes
    signs = [
        torch.where(seeds.fold("probe", p).uniform(data) < 0.5, -1.0, 1.0) for p in range(probes)
    ] or list(torch.eye(size, dtype=torch.float64).reshape(size, 1, *x.shape[1:]))
    columns = probes or 1

    def field(y: Tensor, s: Time, index: Tensor) -> Tensor:
        t = schedule.time_of(-s).clamp(0, 1)
        cos, scale = (torch.sigmoid(-s)).sqrt(), _norm(schedule, t)
        here = {k: v[index.to(v.device)] for k, v in cond.items()}
        with torch.inference_mode(False), torch.enable_grad():
            state = y[:, :size].reshape(-1, *x.shape[1:]).to(x).requires_grad_()
            mean = denoiser(state * at(scale, state), t, **here).mean
            traces = [
                per_example(_slope(mean, state, e if probes == 0 else e[index]).cpu().double()) for e in signs
            ]
        trace = torch.stack(traces, 1) if probes else torch.stack(traces, 1).sum(1, keepdim=True)
        half = (cos / 2)[:, None]
        move = half * (cos[:, None] * y[:, :size] - mean.detach().cpu().double().flatten(1))
        return torch.cat([move, half * (size * cos[:, None] - trace)], 1)

    def norm(error: Tensor, y: Tensor) -> Tensor:
        allowed = tolerance * (1 + y[:, :size].abs())
        moved = (error[:, :size] / allowed).square().mean(1).sqrt()
        return torch.maximum(moved, error[:, size:].mean(1).abs() / (size * tolerance))

    cos = math.sqrt(1 / (1 + math.exp(start)))
    y = torch.cat([cos * data.flatten(1), torch.zeros(batch, columns, dtype=torch.float64)], 1)
    try:
        end, calls = integrate(field, y, start, stop, norm, most=most)
    except Unreached as e:
        raise UserError(
            f"the flow's likelihood cannot be had to a tolerance of {tolerance:g}: {e}; allow a larger one with "
            "--tolerance, or train the model longer"
        ) from e
    variance = 1 / (1 + math.exp(-stop))  # sin² φ_1, whose prior it is
    z = end[:, :size]
    log_prior = -(z.square() / variance + math.log(2 * math.pi * variance)).sum(1) / 2
    each = -(log_prior + end[:, size:].T + size * math.log(cos)) + log_q
    return Flow(each.mean(0), each, calls, probes)


def choose_dequantisation(
    denoiser: Denoiser, x: Float[Tensor, "b ..."], seeds: Seeds, level: float, **cond: Any
) -> Dequantisation:
    """The one whose bound is lowest on these items, which are not to be among those that are measured."""
    totals = [
        float(flow_likelihood(denoiser, x, seeds, level=level, dequantisation=d, tolerance=ROUGH, **cond).nats.mean())
        for d in CANDIDATES
    ]  # fmt: skip
    return CANDIDATES[totals.index(min(totals))]


def _norm(schedule: Schedule, t: Time) -> Time:
    return (schedule.alpha(t).square() + schedule.sigma(t).square()).sqrt()


def _slope(mean: Tensor, state: Tensor, e: Tensor) -> Tensor:
    """e · eᵀ ∂mean/∂state, elementwise."""
    e = e.to(mean).expand_as(mean)
    (back,) = torch.autograd.grad(mean, state, e, retain_graph=True)
    return back * e
