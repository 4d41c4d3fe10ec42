"""Stochastic Levenberg–Marquardt for a handful of controls.

The loss is the distance between a walk's end and the flow's, r_i = y_k(z_i) - x(z_i), with a pseudo-Huber cap so
that the few noises that lie between two modes do not rule:

    L(θ) = mean_i 2c²(√(1 + e_i/c²) - 1),    e_i = ‖r_i‖²/d,    c twice the median of √e_i        (1)

Networks have millions of parameters and are trained by their gradient alone; a sequence has ten to a hundred, so the
curvature is at hand. With ω_i = 1/√(1 + e_i/c²), J_i the Jacobian of one walk and v_i random signs,

    ∇L = mean ω_i J_iᵀ r_i/d,      H = E mean ω_i J_iᵀ v_i v_iᵀ J_i/d = mean ω_i J_iᵀ J_i/d        (2)

is the Gauss–Newton matrix, without bias and at the price of one more backward sweep (Hutchinson 1989); a moving
average over batches takes its noise away. Steps solve (H + μ diag H + ε L) δ = -∇L, are kept where the batch's loss
falls and tried again with a larger μ where it does not (Marquardt 1963). On frozen networks this took 40 batches to
where Adam, at the rates that the literature gives, needs thousands.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from kuosan.adapt.controls import Controls
from kuosan.adapt.flow import Flow
from kuosan.adapt.rollout import Pairs, gradients, walk
from kuosan.core.random import Seeds

Make = Callable[[Float64[Tensor, " p"]], Controls]  # controls from what is learned
CHECKED, EVERY, ASTRAY = 128, 8, 1.25  # pairs, turns, and how much worse than the best point is too much
_KEEP = 0.8  # of the curvature from batch to batch
_RIDGE = 1e-3  # ε of the module's text: a step of one in a direction that changes nothing is long
_TRIES, _GROW, _SHRINK, _LEAST = 5, 4.0, 0.5, 1e-6
_NUDGE = 1e-5  # of the differences that give dθ → controls, in float64


@dataclass(frozen=True)
class Effort:
    """How much fitting there is: ``batches`` of ``batch`` pairs."""

    batches: int
    batch: int = 64


def errors(end: Tensor, x: Tensor) -> Float64[Tensor, " b"]:
    """Squared error per element of each example."""
    return (end - x).flatten(1).double().square().mean(1).cpu()


def capped(e: Tensor, c: float) -> Tensor:
    """Eq. 1 per example."""
    return 2 * c * c * ((1 + e / c**2).sqrt() - 1)


def fit(
    flow: Flow,
    make: Make,
    theta: Float64[Tensor, " p"],
    pairs: Pairs,
    effort: Effort,
    seeds: Seeds,
    *,
    piece: int = 64,
    mu: float = 0.1,
    tell: Callable[[float], None] = lambda done: None,
) -> Float64[Tensor, " p"]:
    """θ that brings ``make(θ)`` closest to the flow.

    Every so often, and for the mean over the last half at the end, all that counts is the distance on pairs that stay
    the same: a batch can lead astray, and then the search goes on from the best point so far, with shorter steps.

    Args:
        seeds: one seed, of the batches and of the signs. mu: damping to begin with.
    """
    numbers = np.random.Generator(np.random.Philox(key=seeds.fold("fit").number()))
    curvature, mean, batch = None, theta, min(effort.batch, len(pairs))
    order = np.empty(0, dtype=np.int64)
    fixed = pairs[:CHECKED]

    def distance(point: Tensor) -> float:
        found = float(errors(walk(flow, make(point), fixed, piece).end, fixed.end).sqrt().mean())
        return found if found == found else float("inf")

    best = distance(theta), theta
    for turn in range(effort.batches):
        while len(order) < batch:
            order = np.concatenate([order, numbers.permutation(len(pairs))])
        part, order = pairs[torch.from_numpy(order[:batch])], order[batch:]
        controls = make(theta)
        walked = walk(flow, controls, part, piece)
        residual = walked.end - part.end
        e = errors(walked.end, part.end)
        c = max(2 * float(e.median().sqrt()), 1e-12)
        signs = torch.from_numpy(numbers.integers(0, 2, tuple(residual.shape)) * 2.0 - 1).to(residual)
        slopes, probes = gradients(flow, controls, part, walked, [residual, signs], piece)
        if (jacobian := _jacobian(make, theta)) is not None:
            slopes, probes = slopes @ jacobian, probes @ jacobian
        omega = (1 + e / c**2).rsqrt()[:, None]
        d = residual[0].numel()
        gradient = (omega * slopes).mean(0) / d
        now = (omega * probes).T @ probes / (len(part) * d)
        curvature = now if curvature is None else _KEEP * curvature + (1 - _KEEP) * now
        loss = float(capped(e, c).mean())
        length = min(1.0, 2 * (1 - turn / effort.batches))
        ridge = _RIDGE * loss * torch.eye(len(theta), dtype=theta.dtype)
        for _ in range(_TRIES):
            damped = curvature + mu * curvature.diagonal().diag() + ridge
            tried = theta - length * torch.linalg.solve(damped, gradient)
            e = errors(walk(flow, make(tried), part, piece).end, part.end)
            if float(capped(e, c).mean()) < loss:
                theta, mu = tried, max(mu * _SHRINK, _LEAST)
                break
            mu *= _GROW
        if turn % EVERY == EVERY - 1:
            here = distance(theta)
            if here < best[0]:
                best = here, theta
            elif here > ASTRAY * best[0]:
                theta, mu = best[1], mu / _SHRINK**2
        if turn >= effort.batches // 2:
            mean = theta if turn == effort.batches // 2 else _KEEP * mean + (1 - _KEEP) * theta
        tell((turn + 1) / effort.batches)
    return min((distance(mean), mean), (distance(theta), theta), best, key=lambda found: found[0])[1]


def _jacobian(make: Make, theta: Tensor) -> Tensor | None:
    """d flat(make(θ))/dθ by central differences; None where θ is what `Controls.flat` gives."""
    controls = make(theta)
    if torch.equal(controls.flat(), theta):
        return None
    columns = []
    for direction in torch.eye(len(theta), dtype=theta.dtype) * _NUDGE:
        columns.append((make(theta + direction).flat() - make(theta - direction).flat()) / (2 * _NUDGE))
    return torch.stack(columns, 1)
