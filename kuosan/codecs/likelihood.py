"""The likelihood of data under a codec and a diffusion model of its latents: the codec's two terms.

For any encoder q(z | x), decoder p(x | z) and density p(z) of latents (Kingma & Welling 2014, eq. 3),

    −log p(x) ≤ E_q[−log p(x | z)] − H[q(z | x)] + E_q[−log p(z)]                                              (1)

with equality where q(z | x) is the exact posterior. A diffusion model bounds the last term per example; the first
two are the codec's, here in nats per example, in the units of the scaled latents, which are those that the diffusion
model sees (a change of unit moves log scale from one term to another and cancels in the sum). The first is
unbiased from one draw of z, the one that goes to the diffusion model. The second is exact:

    H[q(z | x)] = ½ Σ_i log(2πe v_i)                                                                           (2)

p(x | z) is a Gaussian around the decoded state. Data of whole levels, such as 8-bit pictures, have probabilities
instead of densities: the Gaussian's mass between the midpoints of neighbouring levels, without end at the
lowest and the highest (Ho et al. 2020, eq. 13), so that the levels' probabilities sum to one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from kuosan.codecs.base import Codec
from kuosan.core.posteriors import Gaussian
from kuosan.core.random import Seeds
from kuosan.core.shapes import per_example


@dataclass(frozen=True)
class Terms:
    """A draw of scaled latents, and the codec's terms of eq. (1) in nats per example, float64 on the CPU.

    ``distortion`` is −log p(x | z), ``entropy`` H[q(z | x)].
    """

    z: Float[Tensor, "b c *sides"]
    distortion: Float[Tensor, " b"]
    entropy: Float[Tensor, " b"]

    def bound(self, prior: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
        """Eq. (1), where ``prior`` is −log p(z) of this draw, or a bound on it, in nats per example."""
        return self.distortion - self.entropy + prior.to(self.distortion)


@torch.no_grad()
def likelihood_terms(
    codec: Codec, x: Float[Tensor, "b C *sides"], seeds: Seeds, level: float | None = None
) -> Terms:
    """The codec's terms of eq. (1).

    Args:
        level: distance between two levels of data that has them, in units of the state, whose lowest and highest
            level are −1 and 1: 2/255 for 8 bits. None is a density.

    Raises:
        ValueError: the codec's encoder is a point, under which no density of x is bounded.
    """
    q = codec.posterior(x)
    if not isinstance(q, Gaussian):
        raise ValueError("this codec's encoder is a point and not a distribution: it gives no likelihood")
    z = q.sample(seeds)
    return Terms(z, distortion(x, codec.decode(z), codec.log_noise, level), entropy(q.variance))


def entropy(variance: Float[Tensor, "b ..."]) -> Float[Tensor, " b"]:
    """Eq. (2), in nats."""
    return 0.5 * per_example((2 * math.pi * math.e * variance.cpu().double()).log())


def kl_to_normal(mean: Float[Tensor, "b ..."], log_var: Float[Tensor, "b ..."]) -> Float[Tensor, " b"]:
    """KL(N(mean, e^log_var) ‖ N(0, I)) in nats (Kingma & Welling 2014, appendix B)."""
    return 0.5 * per_example(mean**2 + log_var.exp() - 1 - log_var)


def distortion(
    x: Float[Tensor, "b ..."], mean: Float[Tensor, "b ..."], log_noise: Tensor, level: float | None = None
) -> Float[Tensor, " b"]:
    """−log p(x | z) of N(mean, e^log_noise), as a density or of whole levels; see the module."""
    x, mean, log_noise = (value.cpu().double() for value in (x, mean, log_noise))
    if level is None:
        return 0.5 * per_example((x - mean) ** 2 / log_noise.exp() + log_noise + math.log(2 * math.pi))
    deviation = (log_noise / 2).exp()
    low = torch.where(x < -1 + level / 2, -math.inf, (x - level / 2 - mean) / deviation)
    high = torch.where(x > 1 - level / 2, math.inf, (x + level / 2 - mean) / deviation)
    # log Φ underflows to 0 from 38 deviations on, where its mirror image, −x²/2 and more, is only large.
    upper = low + high > 0
    low, high = torch.where(upper, -high, low), torch.where(upper, -low, high)
    top = torch.special.log_ndtr(high)
    return -per_example(top + (-torch.expm1(torch.special.log_ndtr(low) - top)).log())
