"""Autoguidance: away from what a worse model of the same data says (Karras et al. 2024, "Guiding a diffusion model with
a bad version of itself").

A model and an early state of it make the same kinds of mistakes, the early one larger ones; so their difference points
away from mistakes. Guidance walks on along it, eq. 1 of `line` with the early state, the *guide*, as the reference:

    E[x | x_t] = guide + w · (model − guide)                                                   (1)

Both hear the same conditions, or none, so that unlike classifier-free guidance it neither needs conditions nor trades
variety for them. The weight is a control sequence here too: `Autoguided(denoiser, guide, Interval(0.2, 0.7, 2.0))`.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from kuosan.core.curves import Curve, curve
from kuosan.core.posteriors import Posterior
from kuosan.core.shapes import State, Time, is_shared
from kuosan.denoisers.base import Denoiser
from kuosan.guidance.line import line
from kuosan.processes.base import Process


class Autoguided(Denoiser):
    """Eq. 1: one plain call of the denoiser where w is 1, of the guide where it is 0, and elsewhere one of each.

    Args:
        denoiser: any denoiser.
        guide: a worse one of the same data and process.
        w: the guidance weight, a number or a curve of it along time; 1 is no guidance.
    """

    needs: ClassVar[type[Process]] = Process  # type: ignore[type-abstract]
    """The kind of process that it can guide: every one."""

    def __init__(self, denoiser: Denoiser, guide: Denoiser, w: float | Curve):
        super().__init__()
        self.denoiser, self.guide, self.w = denoiser, guide, curve(w)
        self.process, self.alone = denoiser.process, denoiser.alone and guide.alone

    def along(self, times: tuple[Time, ...], like: State) -> Denoiser:
        return Autoguided(self.denoiser.along(times, like), self.guide.along(times, like), self.w)

    def forward(self, x_t: State, t: Time, **cond: Tensor) -> Posterior:
        """The guided q(x | x_t), of the kinds that `line` knows."""
        w = self.w(t[:1] if is_shared(t) else t)
        fixed = not w.requires_grad  # a weight that is being learned keeps its gradient
        if fixed and bool((w == 1).all()):
            return self.denoiser(x_t, t, **cond)
        if fixed and bool((w == 0).all()):
            return self.guide(x_t, t, **cond)
        return line(self.denoiser(x_t, t, **cond), self.guide(x_t, t, **cond), w)
