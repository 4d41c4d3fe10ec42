"""Given parts: some entries of x are known, y = M x, and the others are to be made so that they fit.

The denoiser of p(x | y) is all that solvers need. It has x̂ = y on given entries, whatever the solver: the noise that
they started with is then carried down to them exactly. For the others there are two ways.

A network that was trained with given parts (`networks.given`) is told of them and says E[x | x_t, y] itself.

Any other denoiser says E[x | x_t] alone. With C = Cov[x | x_t] = (σ²/α) ∂x̂/∂x_t (Tweedie's second-order formula),

    E[x | x_t, y] = x̂ + C Mᵀ (M C Mᵀ)⁻¹ (y - M x̂)                                             (1)

exactly where x given x_t is Gaussian, and to second order elsewhere (Boys et al. 2023; Rozet et al. 2024). The system
is solved by a few conjugate gradients, each one backward pass; the first alone is ΠGDM (Song et al. 2023) with the r²
that fits best at this x_t, and none is replacement (Song et al. 2021; Ho et al. 2022, "Video diffusion models") on
noise that stays the same: to the rest, what is given is all but invisible before the last steps.

On mixtures of Gaussians whose conditional law is known, corrections come nearer to it than replacement and than
resampling (RePaint, Lugmayr et al. 2022) at the same cost, and two as near as five (`benchmarks/given.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import singledispatch
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from kuosan.core.posteriors import Gaussian, Point, Posterior
from kuosan.core.shapes import GIVEN, Time, at, per_example
from kuosan.denoisers.base import Denoiser
from kuosan.networks.given import told
from kuosan.processes.additive import AdditiveProcess
from kuosan.processes.base import Process
from kuosan.processes.gaussian import GaussianProcess

Part = Callable[[Tensor], Tensor]
CORRECTIONS = 2
_FLAT = (
    0.02  # of the variance that unit data have left: what a network says beyond that is not to be believed
)


class Given(Denoiser):
    """A denoiser of x where some of its entries are known.

    The outermost of wrappers: around guidance by conditions, calibration and windows.

    Args:
        denoiser: any denoiser of an additive process.
        known: (b or 1, c, *sides); only its given entries are read.
        mask: true where they are given, of the same shape.
        trained: the network was trained with given parts, and is told of them.
        corrections: conjugate gradients for eq. 1, of one that was not; 0 where its noise is not Gaussian.
    """

    needs: ClassVar[type[Process]] = AdditiveProcess
    """The kind of process that it can guide."""

    process: AdditiveProcess

    def __init__(
        self,
        denoiser: Denoiser,
        known: Float[Tensor, "b c *sides"],
        mask: Bool[Tensor, "b c *sides"],
        *,
        trained: bool = False,
        corrections: int = CORRECTIONS,
    ):
        super().__init__()
        assert isinstance(denoiser.process, AdditiveProcess)
        self.denoiser, self.process = denoiser, denoiser.process
        self.known, self.mask, self.trained = known, mask.expand_as(known), trained
        gaussian = isinstance(denoiser.process, GaussianProcess)
        self.corrections = corrections if gaussian and not trained else 0

    def along(self, times: tuple[Time, ...], like: Tensor) -> Denoiser:
        ahead = self.denoiser.along(times, like)
        return Given(ahead, self.known, self.mask, trained=self.trained, corrections=self.corrections)

    def forward(self, x_t: Tensor, t: Time, **cond: Tensor) -> Posterior:
        known, mask = self.known.to(x_t).expand_as(x_t), self.mask.to(x_t.device).expand_as(x_t)
        if self.trained:
            q = self.denoiser(x_t, t, **cond, **{GIVEN: told(known, mask)})
        elif self.corrections:
            q = corrected(self.denoiser, x_t, t, cond, known, lambda v: mask * v, self.corrections)
        else:
            q = self.denoiser(x_t, t, **cond)
        return pasted(q, known, mask)


def corrected(
    denoiser: Denoiser,
    x_t: Tensor,
    t: Time,
    cond: Mapping[str, Tensor],
    known: Tensor,
    part: Part,
    steps: int,
) -> Posterior:
    """Eq. 1 by so many conjugate gradients, example by example.

    Args:
        known: y, as a state: only its part is read.
        part: the orthogonal projection Mᵀ M on what is known.
    """
    process = denoiser.process
    assert isinstance(process, AdditiveProcess)
    level = process.schedule.level(t)
    with torch.inference_mode(False), torch.enable_grad():
        x_t, known = (v.detach().clone() for v in (x_t, known))  # inference tensors have no gradients
        q = denoiser(x_t.requires_grad_(), t, **{name: c.clone() for name, c in cond.items()})
        mean = q.mean

        def slope(v: Tensor) -> Tensor:
            return torch.autograd.grad(mean, x_t, v, retain_graph=True)[0]

        # C without its factor, which eq. 1 does not feel; of data of unit variance α/(α² + σ²)
        floor = _FLAT * (level.alpha / (level.alpha.square() + level.sigma.square())).to(x_t)
        move = solve(slope, part(known - mean.detach()), part, floor, steps)
    return moved_by(q, move)


def solve(
    covariance: Callable[[Tensor], Tensor], residual: Tensor, part: Part, floor: Tensor, steps: int
) -> Tensor:
    """C Mᵀ (M C Mᵀ)⁻¹ r of eq. 1 after so many conjugate gradients (Hestenes & Stiefel 1952), each example on its own,
    with C known up to a factor. Along directions where a network says less than ``floor`` (b,) steps are as if it said
    that, and where it says less than nothing there are none."""
    move, r, p = torch.zeros_like(residual), residual, residual
    rr = per_example(r.square())
    for _ in range(steps):
        spread = covariance(p)
        curvature = per_example(p * spread)
        fair = curvature > 0
        least = torch.maximum(curvature, floor * per_example(p.square()))
        step = torch.where(fair, rr / least, torch.zeros_like(rr))
        move = move + at(step, p) * spread
        r = r - at(step, p) * part(spread)
        before, rr = rr, per_example(r.square())
        p = r + at(torch.where(fair, rr / before, torch.zeros_like(rr)), p) * p
    return move


@singledispatch
def pasted(q: Posterior, known: Tensor, mask: Tensor) -> Posterior:
    """A posterior that is certain of what is given: the mean alone (`Point`), or with variances."""
    return Point(torch.where(mask, known, q.mean))


@pasted.register
def _(q: Gaussian, known: Tensor, mask: Tensor) -> Posterior:
    return Gaussian(torch.where(mask, known, q.mean), q.variance.masked_fill(mask, 0))


@singledispatch
def moved_by(q: Posterior, move: Tensor) -> Posterior:
    """A posterior of the kinds above with its mean moved, without gradients."""
    return Point(q.mean.detach() + move)


@moved_by.register
def _(q: Gaussian, move: Tensor) -> Posterior:
    return Gaussian(q.mean.detach() + move, q.variance.detach())
