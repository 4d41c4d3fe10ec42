"""Larger than trained: a denoiser of a large state made of one that knows windows of it.

    E[x | x_t] ≈ Σ_w g_w · E[x_w | x_{t,w}] / Σ_w g_w                                          (1)

over windows w that cover the state, each of the size that the denoiser was trained on (MultiDiffusion, Bar-Tal et al.
2023: the blend that is closest to all of them in the least-squares sense weighted by g). g falls to the edges of a
window along the overlap like sin², so that no seam is seen and that the places that a window knows least of, whose
surroundings it cannot see, hardly count.

Eq. 1 is exact for data whose parts beyond a window say nothing of those within; where they say ever less the further
they are, by a factor r per place, the mean is off by no more than Σ_w g_w r^(distance to the inner edges of w) of what
it is off at an edge. What ties the ends of a large state together, such as a melody's key, it cannot know.

Windows are worked on one after the other: the memory is that of one, and the cost grows with their number. Where
gradients go through them, which `guidance.given` asks for, nothing is kept of their inner values, which are computed
again when they are needed (Chen et al. 2016): of a scan of hundreds of windows they would fill any memory.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from functools import partial, singledispatch
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from kuosan.core.posteriors import Gaussian, Point, Posterior
from kuosan.core.shapes import SPATIAL, Time
from kuosan.core.windows import starts_of
from kuosan.denoisers.base import Denoiser
from kuosan.processes.additive import AdditiveProcess
from kuosan.processes.base import Process

OVERLAP = 0.5  # of a window's side


class Windows(Denoiser):
    """Eq. 1 around a denoiser of windows.

    Args:
        denoiser: of states (b, c, *sides).
        sides: of its states.
        overlap: of neighbouring windows at least, as a part of their side; below 1.
        grain: of which their first places are multiples, where their sides are.
        cells: sides of the patches that the network cuts windows into, whose edges then do not lie on each other:
            what is seen of them in one window is averaged away by the next.
    """

    needs: ClassVar[type[Process]] = AdditiveProcess
    """The kind of process that it can guide."""

    process: AdditiveProcess

    def __init__(
        self,
        denoiser: Denoiser,
        sides: Sequence[int],
        overlap: float = OVERLAP,
        grain: int = 1,
        cells: Sequence[int] | None = None,
    ):
        super().__init__()
        assert isinstance(denoiser.process, AdditiveProcess)
        if not 0 <= overlap < 1:
            raise ValueError(f"windows overlap by a part of their side below 1, not by {overlap:g}")
        self.denoiser, self.process = denoiser, denoiser.process
        self.sides, self.overlap, self.grain = tuple(sides), overlap, grain
        self.cells = tuple(cells or [1] * len(self.sides))

    def along(self, times: tuple[Time, ...], like: Tensor) -> Denoiser:
        window = like[(slice(None), slice(None), *(slice(side) for side in self.sides))]
        return Windows(self.denoiser.along(times, window), self.sides, self.overlap, self.grain, self.cells)

    def forward(self, x_t: Float[Tensor, "b c *larger"], t: Time, **cond: Tensor) -> Posterior:
        """The blended posterior.

        Raises:
            ValueError: the state has a side that is smaller than a window's.
        """
        parts: list[Tensor] = []
        total = x_t.new_zeros(x_t.shape[2:])
        for place, g in self.places(x_t.shape[2:]):
            here = (slice(None), slice(None), *place)
            q, g = self._of_window(x_t[here], t, seen_from(cond, place)), g.to(x_t)
            total[place] += g
            for i, moment in enumerate(moments(q)):
                if len(parts) == i:
                    parts.append(torch.zeros_like(x_t))
                parts[i][here] += g * moment
        mean, *variance = (part / total for part in parts)
        return Gaussian(mean, *variance) if variance else Point(mean)

    def _of_window(self, x_t: Tensor, t: Time, cond: Mapping[str, Tensor]) -> Posterior:
        if not (x_t.requires_grad and torch.is_grad_enabled()):
            return self.denoiser(x_t, t, **cond)
        told = partial(self.denoiser, **cond)
        q: Posterior = checkpoint(told, x_t, t, use_reentrant=False, preserve_rng_state=False)
        return q

    def places(self, larger: Sequence[int]) -> Iterator[tuple[tuple[slice, ...], Tensor]]:
        """The windows on a state of these sides and their weights g."""
        axes = []
        for side, n, cell in zip(self.sides, larger, self.cells, strict=True):
            starts = starts_of(n, side, self.overlap, self.grain, cell)
            lap = side - max((b - a for a, b in itertools.pairwise(starts)), default=side)
            axes.append([(slice(start, start + side), ramp(side, lap)) for start in starts])
        for window in itertools.product(*axes):
            weight = torch.ones((), dtype=torch.float64)
            for _, along in window:
                weight = weight[..., None] * along
            yield tuple(place for place, _ in window), weight


def seen_from(cond: Mapping[str, Tensor], place: tuple[slice, ...]) -> dict[str, Tensor]:
    """The conditions of a window: of those of every place the part there."""
    return {name: c[:, :, *place] if name in SPATIAL else c for name, c in cond.items()}


def ramp(side: int, lap: int) -> Float[Tensor, " side"]:
    """g along one side: 1, but for a rise and a fall like sin² over ``lap`` places at the ends; nowhere 0."""
    place = torch.arange(side, dtype=torch.float64) + 0.5
    inner = torch.minimum(place, side - place)
    return (inner / max(lap, 1)).clamp_max(1).mul(math.pi / 2).sin().square()


@singledispatch
def moments(q: Posterior) -> tuple[Tensor, ...]:
    """The mean, and the variances where there are any."""
    return (q.mean,)


@moments.register
def _(q: Gaussian) -> tuple[Tensor, ...]:
    return q.mean, q.variance
