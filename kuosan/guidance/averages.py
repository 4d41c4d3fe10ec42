"""Known averages: of every block of f×f places (f in one dimension, f×f×f in three) the mean is known, y = A x.

An enlarged picture is such a state, whose averages are the small one. With A⁺ y = every value f×f times, A A⁺ = 1, and
P = A⁺ A is the orthogonal projection on what averages tell. The denoiser of p(x | y) has

    x̂ ← x̂ + A⁺ y − P x̂                                                                           (1)

so that A x̂ = y whatever the solver: range and null space, DDNM (Wang et al. 2023, eq. 9). A denoiser that was not
trained to hear of y is first corrected by conjugate gradients, as for given parts (`guidance.given`, eq. 1, with P for
the mask): the details then know of the averages long before the last steps. What is left to chance is no longer that of
single places, so the mean alone is said.

Samples are written in levels, and rounding undoes (1) by half a level. `exact` chooses levels whose averages are those
of the small picture to the last bit.
"""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from kuosan.core.posteriors import Point, Posterior
from kuosan.core.shapes import AVERAGES, Time
from kuosan.denoisers.base import Denoiser
from kuosan.guidance.given import corrected
from kuosan.processes.additive import AdditiveProcess
from kuosan.processes.base import Process
from kuosan.processes.gaussian import GaussianProcess

_POOLS = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)
BISECTIONS = 40


def averaged(x: Float[Tensor, "b c *sides"], factor: int) -> Float[Tensor, "b c *smaller"]:
    """A x: the mean of every block."""
    return _POOLS[x.ndim - 3](x, factor)


def repeated(y: Float[Tensor, "b c *smaller"], factor: int) -> Float[Tensor, "b c *sides"]:
    """A⁺ y: every value all over its block."""
    for axis in range(2, y.ndim):
        y = y.repeat_interleave(factor, axis)
    return y


def projected(x: Float[Tensor, "b c *sides"], factor: int) -> Float[Tensor, "b c *sides"]:
    """P x."""
    return repeated(averaged(x, factor), factor)


class Averages(Denoiser):
    """Eq. 1 around any denoiser of an additive process.

    Args:
        known: A⁺ y (b, c, *sides), or None where it comes with every call, as the condition `AVERAGES`.
        factor: f; a whole part of every side.
        corrections: conjugate gradients, of a denoiser that does not hear of y; none where its noise is not Gaussian.
        hands_on: what is wrapped has averages inside it, of windows, and is handed A⁺ y.
    """

    needs: ClassVar[type[Process]] = AdditiveProcess
    """The kind of process that it can guide."""

    process: AdditiveProcess

    def __init__(
        self,
        denoiser: Denoiser,
        known: Float[Tensor, "b c *sides"] | None,
        factor: int,
        *,
        corrections: int = 0,
        hands_on: bool = False,
    ):
        super().__init__()
        assert isinstance(denoiser.process, AdditiveProcess)
        self.denoiser, self.process = denoiser, denoiser.process
        self.known, self.factor, self.hands_on = known, factor, hands_on
        self.corrections = corrections if isinstance(denoiser.process, GaussianProcess) else 0

    def along(self, times: tuple[Time, ...], like: Tensor) -> Denoiser:
        return Averages(
            self.denoiser.along(times, like), self.known, self.factor,
            corrections=self.corrections, hands_on=self.hands_on,
        )  # fmt: skip

    def forward(self, x_t: Tensor, t: Time, **cond: Tensor) -> Posterior:
        known = (cond.pop(AVERAGES) if self.known is None else self.known).to(x_t).expand_as(x_t)
        if self.hands_on:
            cond[AVERAGES] = known
        if self.corrections:
            q = corrected(self.denoiser, x_t, t, cond, known, self.part, self.corrections)
        else:
            q = self.denoiser(x_t, t, **cond)
        return Point(q.mean + (known - self.part(q.mean)))

    def part(self, x: Tensor) -> Tensor:
        """P x."""
        return projected(x, self.factor)


def exact(
    x: Float[Tensor, "b c *sides"], y: Float[Tensor, "b c *smaller"], factor: int, level: float | None
) -> Float[Tensor, "b c *sides"]:
    """The state in [-1, 1] nearest to ``x`` whose averages are ``y``; with a ``level`` between neighbouring values,
    one of whole levels, whose averages are ``y`` to the last bit where ``y`` is.

    Nearest in [-1, 1] is clip(x + μ) with one μ for each block, found by bisection; of the levels below it as many are
    raised as are missing, those with the most left over first.
    """
    v, aim = _blocks(x.double(), factor), y.double().flatten(2)[..., None].clamp(-1, 1)
    low, high = -1 - v.amax(-1, keepdim=True), 1 - v.amin(-1, keepdim=True)
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        short = (v + middle).clamp(-1, 1).mean(-1, keepdim=True) < aim
        low, high = torch.where(short, middle, low), torch.where(short, high, middle)
    v = (v + high).clamp(-1, 1)
    if level is not None:
        units, total = (v + 1) / level, ((aim + 1) / level).round() * v.shape[-1]
        floor = (units + 1e-6).floor()
        missing = total - floor.sum(-1, keepdim=True)
        rank = (floor - units).argsort(dim=-1, stable=True).argsort(-1)
        v = (floor + (rank < missing)) * level - 1
    return _whole(v, x.shape, factor).to(x)


def _blocks(x: Tensor, factor: int) -> Float[Tensor, "b c n k"]:
    """Every block's values in a row."""
    b, c, *sides = x.shape
    s = len(sides)
    x = x.reshape(b, c, *(n for side in sides for n in (side // factor, factor)))
    outer, inner = range(2, 2 + 2 * s, 2), range(3, 2 + 2 * s, 2)
    return x.permute(0, 1, *outer, *inner).reshape(b, c, -1, factor**s)


def _whole(v: Tensor, shape: torch.Size, factor: int) -> Tensor:
    """Undoes `_blocks`."""
    b, c, *sides = shape
    s = len(sides)
    v = v.reshape(b, c, *(side // factor for side in sides), *(factor,) * s)
    pairs = [k for pair in zip(range(2, 2 + s), range(2 + s, 2 + 2 * s), strict=True) for k in pair]
    return v.permute(0, 1, *pairs).reshape(shape)
