"""How clips move: numbers of one clip, and a feature space that holds nothing else.

Of a clip g_0 … g_{T-1} in shades of grey from 0 to 1, with Δ_i = g_{i+1} - g_i and means over pixels and times,

    motion    = mean |Δ_i|                                how much changes from one frame to the next             (1)
    flicker   = mean |Δ_{i+1} - Δ_i|                      how much of that is taken back at once                  (2)
    spectrum  = Σ_{f > T/4} P_f / Σ_{f > 0} P_f,          P_f = Σ_pixels |Σ_i g_i e^(-2πi f i/T)|²                (3)

the last being the share of fast changes in all change (0 where nothing moves).  Of frames in another order, all three
tell; of a clip that runs backwards, none.  So the space `movement` keeps the signs: it averages Δ_i and |Δ_i| over a
grid of 4 × 4 cells (Movement), and what comes to a place tells from what goes away.

The Fréchet distance of video networks moves far less with time than with content (Ge et al. 2024): in a space that
is blind to time, clips with shuffled frames are as good as real ones.  So every distance between clips stands beside
this control, real clips whose frames are shuffled, which must be far off.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from scipy.stats import wasserstein_distance
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from kuosan.evaluation.base import Better, Estimate, Metric
from kuosan.evaluation.estimates import jackknife
from kuosan.evaluation.features import FeatureSpace

CELLS = 4
GROUPS = 20
_LUMA = (0.299, 0.587, 0.114)


def grey(x: Float[Tensor, "n c t h w"]) -> Float[Tensor, "n t h w"]:
    """Clips in [-1, 1] in shades of grey from 0 to 1 (ITU-R BT.601); of two or four channels the last is how opaque
    they are, over white."""
    value, c = (x + 1) / 2, x.shape[1]
    if c in (2, 4):
        value = value[:, :-1] * value[:, -1:] + 1 - value[:, -1:]
    return torch.einsum("ncthw,c->nthw", value, value.new_tensor(_LUMA if c >= 3 else (1.0,)))


def motion(x: Float[Tensor, "n c t h w"]) -> Float[Tensor, " n"]:
    """Equation (1)."""
    return grey(x).diff(dim=1).abs().mean((1, 2, 3))


def flicker(x: Float[Tensor, "n c t h w"]) -> Float[Tensor, " n"]:
    """Equation (2); 0 of two frames."""
    changes = grey(x).diff(n=2, dim=1).abs()
    return changes.mean((1, 2, 3)) if changes.shape[1] else changes.new_zeros(len(x))


def spectrum(x: Float[Tensor, "n c t h w"]) -> Float[Tensor, " n"]:
    """Equation (3)."""
    power = torch.fft.rfft(grey(x).double(), dim=1).abs().square().sum((2, 3))[:, 1:]
    t = x.shape[2]
    twice = torch.full((power.shape[1],), 2.0, dtype=torch.float64)
    if t % 2 == 0:
        twice[-1] = 1.0  # the fastest change of an even number of frames has no mirror image
    power = power * twice
    fast = torch.arange(1, power.shape[1] + 1) > t / 4
    total = power.sum(1)
    return torch.where(total > 1e-9, power[:, fast].sum(1) / total.clamp_min(1e-9), 0.0).to(x.dtype)


STATISTICS: dict[str, Callable[[Tensor], Tensor]] = {
    "motion": motion,
    "flicker": flicker,
    "spectrum": spectrum,
}


class Movement(FeatureSpace):
    """Changes between frames and their sizes, each averaged over a grid of cells: nothing of how things look."""

    name = "movement"

    def __call__(self, x: Float[Tensor, "n c t h w"]) -> Float[Tensor, "n d"]:
        changes = grey(x).diff(dim=1)
        return torch.cat(
            [adaptive_avg_pool2d(part, CELLS).flatten(1) for part in (changes, changes.abs())], 1
        )

    def describe(self) -> dict[str, Any]:
        what = f"changes from frame to frame and their sizes, averaged over {CELLS}×{CELLS} cells"
        return {"name": self.name, "what": what}


def shuffled_frames(x: Float[Tensor, "n c t h w"], generator: torch.Generator) -> Float[Tensor, "n c t h w"]:
    """Each clip's frames in an order of its own."""
    order = torch.rand(len(x), x.shape[2], generator=generator).argsort(1)
    return torch.stack([clip[:, places] for clip, places in zip(x, order, strict=True)])


class WassersteinDistance(Metric):
    """How far apart two sets of single numbers lie: the mean difference of their quantiles, in units of the reference's
    mean, W₁ = ∫ |F⁻¹(u) - G⁻¹(u)| du / mean |y|.  0.1 is a tenth off."""

    name: ClassVar[str] = "wasserstein"
    better: ClassVar[Better] = "lower"
    needs: ClassVar[tuple[str, ...]] = ("features",)
    notices: ClassVar[tuple[str, ...]] = ("dropped modes", "noise")

    def value(self, samples: Float[Tensor, "n 1"], reference: Float[Tensor, "m 1"], **needs: Tensor) -> float:
        scale = float(reference.double().abs().mean())
        if not scale > 0:
            raise ValueError("nothing moves in the real clips, so there is nothing to compare with")
        return float(wasserstein_distance(samples[:, 0].double(), reference[:, 0].double())) / scale

    def estimate(
        self, samples: Float[Tensor, "n 1"], reference: Float[Tensor, "m 1"], **needs: Tensor
    ) -> Estimate:
        """With a jackknife over groups of rows, of both sides."""

        def value(mine: Tensor, theirs: Tensor) -> float:
            return self.value(samples[mine], reference[theirs])

        means = f"on average {float(samples.mean()):.3g}, of real clips {float(reference.mean()):.3g}"
        error = jackknife(value, samples, reference, GROUPS)
        return Estimate(self.value(samples, reference), error, note=means)
