"""The score Fokker–Planck residual: how far a score field is from one that belongs to any diffusion at all.

Where the corruption of any data has the densities q_t, their scores s = ∇ log q_t solve

    ∂s/∂t + a (x·∇) s + a s = ½ g² ∇(div s + |s|²)                                                (1)

the gradient of the Fokker–Planck equation of log q, divided among both sides (Lai et al. 2023, FP-Diffusion; a
and g² as in `score`). Of a trained denoiser s is given by its mean, and the two sides differ. With λ' = dλ/dt,

    R(x_t, t) = (σ/λ')² ‖left - right‖²/d                                                          (2)

-σ s is the noise that the denoiser sees in x_t, of mean square 1 per element. So √E[R] is by how many of its
standard deviations that prediction, per element, goes its own way for each unit of log-SNR. (2) depends on
neither the pace of time nor the scale of x_t: a denoiser has one residual under all schedules. (Lai et al. have
a ∇(x·s) for the drift's terms. For gradients it is the same; other fields would have a residual per schedule.)

What it means: where s is a gradient and R = 0 everywhere, the probability flow, the reverse SDE and all churns
between them have one and the same law of samples, given the right start; on a line, only there.
What it does not mean: that samples are good. The exact denoiser of other data has R = 0 as well, and training
for small R need not improve samples (arXiv 2604.15171). Nor is it a share of the loss: where R is large the
field bends in a way that no data explain, and that can be where samples never go.

∇ div s is the mean of ∇(v·∂s/∂x v) over v with independent signs (Hutchinson 1990), two passes back per v.
Its noise would make (2) too large. So of the k ≥ 2 residuals r_i of single probes, the products of different
ones are averaged, which has no bias and may be negative for one state,

    ‖r‖² ≈ (‖Σ r_i‖² - Σ ‖r_i‖²)/(k (k - 1))                                                       (3)
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from kuosan.core.random import Seeds
from kuosan.core.shapes import Time, as_time, at, per_example
from kuosan.denoisers.base import Denoiser
from kuosan.explain.score import coefficients, score


def score_residual(
    denoiser: Denoiser, x_t: Tensor, t: Time, seeds: Seeds, probes: int | None = None, **cond: Tensor
) -> Float[Tensor, " b"]:
    """R of eq. 2, per example.

    Args:
        denoiser: over a Gaussian process, twice differentiable in x_t and once in t.
        x_t, t: states (b, ...) and times (b,) with 0 < σ and 0 < α.
        seeds: one per example, for the probes.
        probes: how many, two or more; None takes every element in turn instead, which is exact and costs a
            pass per element.
        cond: conditions (b, ...).
    """
    if probes is not None and probes < 2:
        raise ValueError("the residual's square needs two probes or more (or None, for an exact trace)")
    schedule, d = denoiser.process.schedule, x_t[0].numel()  # type: ignore[attr-defined]
    with torch.inference_mode(False), torch.no_grad():
        a, g2 = (c.clone() for c in coefficients(schedule, t))
        scale = (schedule.sigma(t) / schedule.log_snr_rate(t)).square().clone() / d
    # Fused attention has no second derivative.
    with torch.inference_mode(False), torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
        x, time = x_t.detach().clone().requires_grad_(), t.detach().clone().requires_grad_()
        s = score(denoiser, x, time, **cond)
        half, slope = at(g2 / 2, x), at(a, x)
        left = _along(s, x, time, slope * x.detach()) + slope * s.detach()
        rest = left - half * torch.autograd.grad(s.square().sum(), x, retain_graph=True)[0]
        parts = (half * b for b in _curvatures(s, x, seeds, probes))
        if probes is None:
            squared = per_example((rest - sum(parts)).square())
        else:
            total, own = torch.zeros_like(rest), torch.zeros_like(t)
            for part in parts:
                total += rest - part
                own += per_example((rest - part).square()).to(own)
            squared = (per_example(total.square()).to(own) - own) / (probes * (probes - 1))
    return scale * squared.to(scale)


def _along(s: Tensor, x: Tensor, time: Time, velocity: Tensor) -> Tensor:
    """∂s/∂t + (velocity·∇) s: forward mode by two passes back, as some layers know no other."""
    dual = torch.zeros_like(s, requires_grad=True)
    by_x, by_time = torch.autograd.grad(s, (x, time), dual, create_graph=True, materialize_grads=True)
    pulled = by_time.sum() + (by_x * velocity).sum()
    return torch.autograd.grad(pulled, dual, retain_graph=True)[0].detach()


def _curvatures(s: Tensor, x: Tensor, seeds: Seeds, probes: int | None) -> Iterator[Tensor]:
    """∇(v·∂s/∂x v) for probes v: random ones, or one per element, whose sum is ∇ div s."""
    for i in range(x[0].numel() if probes is None else probes):
        if probes is None:
            v = torch.zeros_like(x).flatten(1)
            v[:, i] = 1
            v = v.reshape(x.shape)
        else:
            v = (seeds.fold("probe", i).uniform(x.detach()) < 0.5).to(x) * 2 - 1
        (pulled,) = torch.autograd.grad(s, x, v, create_graph=True)
        # A field of constant slope has no second derivative to go back through.
        yield torch.autograd.grad((pulled * v).sum() + 0 * x.sum(), x, retain_graph=True)[0]


@dataclass(frozen=True)
class LevelResidual:
    """R of eq. 2 at one level of noise: its mean over ``n`` states and the mean's standard error."""

    t: float
    log_snr: float
    mean: float
    stderr: float
    n: int

    @property
    def root(self) -> float:
        """√E[R], in standard deviations of the noise per element and unit of log-SNR; 0 where (3) fell below."""
        return math.sqrt(max(self.mean, 0.0))

    @property
    def root_stderr(self) -> float:
        """The standard error of `root`, to first order; nan where that has none."""
        return self.stderr / (2 * self.root) if self.root else math.nan


def residual_by_level(
    denoiser: Denoiser,
    x: Tensor,
    log_snrs: Sequence[float],
    seeds: Seeds,
    probes: int | None = None,
    **cond: Tensor,
) -> list[LevelResidual]:
    """The residual where clean data ``x`` (b, ...) lead, level by level.

    The same data and the same noise are used at every level, so that levels can be compared.
    """
    schedule, out = denoiser.process.schedule, []  # type: ignore[attr-defined]
    for log_snr in log_snrs:
        t = as_time(schedule.time_of(torch.tensor([log_snr], dtype=torch.float64))[0].detach(), len(x))
        x_t = denoiser.process.corrupt(x, t, seeds.fold("noise"))
        r = score_residual(denoiser, x_t, t, seeds.fold("residual"), probes, **cond)
        error = float(r.std()) / math.sqrt(len(r)) if len(r) > 1 else math.nan
        out.append(LevelResidual(float(t[0]), float(log_snr), float(r.mean()), error, len(r)))
    return out
