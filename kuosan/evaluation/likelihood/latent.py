"""The bound through both stages of a latent diffusion: a codec, and a diffusion of its latents.

    -log p(x) ≤ E_q[-log p(x | z)]               distortion, of the decoder's Gaussian
              - H[q(z | x)]                       less the entropy of what the encoder leaves open
              + E_q[-log p(z)]                    prior, bounded by the diffusion                     (1)

(Kingma & Welling 2014, eq. 3; Vahdat et al. 2021, eq. 1) with one draw z from q(z | x) for both expectations, so that
the sum is unbiased. Latents are real numbers, so the diffusion's part is that of a density, negative where the latents
are certain; data may have levels. The sum does not depend on the unit in which the latents are counted.

The gap of (1) is KL(q(z | x) ‖ p(z | x)) and the diffusion's own. It is nothing where the encoder is the decoder's
exact posterior and the denoiser exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from kuosan.codecs.base import Codec
from kuosan.codecs.likelihood import likelihood_terms
from kuosan.core.posteriors import Gaussian
from kuosan.core.random import Seeds
from kuosan.denoisers.base import Denoiser
from kuosan.errors import UserError
from kuosan.evaluation.likelihood.bound import Terms, bound
from kuosan.evaluation.likelihood.times import Times

CHUNK = 8  # states that the codec is given at a time


@dataclass(frozen=True)
class LatentTerms:
    """Eq. 1 in nats per example, each (b,) in float64 on the CPU; ``prior`` is the diffusion's bound in its terms."""

    distortion: Float[Tensor, " b"]
    entropy: Float[Tensor, " b"]
    prior: Terms

    @property
    def total(self) -> Float[Tensor, " b"]:
        return self.distortion - self.entropy + self.prior.total

    @property
    def parts(self) -> dict[str, Float[Tensor, " b"]]:
        """What `total` is the sum of."""
        names = ("prior", "diffusion", "reconstruction")
        first = {"distortion": self.distortion, "entropy": -self.entropy}
        return first | {name: getattr(self.prior, name) for name in names}

    @classmethod
    def join(cls, parts: Sequence[LatentTerms]) -> LatentTerms:
        """The terms of all examples."""
        return cls(
            torch.cat([p.distortion for p in parts]),
            torch.cat([p.entropy for p in parts]),
            Terms.join([p.prior for p in parts]),
        )


def latent_bound(
    codec: Codec,
    denoiser: Denoiser,
    x: Float[Tensor, "b C H W"],
    seeds: Seeds,
    times: Times,
    *,
    count: int = 16,
    level: float | None = None,
    **cond: Tensor,
) -> LatentTerms:
    """Eq. 1.

    Args:
        codec: with an encoder that is a distribution.
        denoiser: of its latents.
        x: data (b, C, H, W).
        times: at which the diffusion's rate is asked for, planned on other items' latents.
        count: calls of the denoiser per example, even.
        level: distance of two levels of the data; None is a density.

    Raises:
        UserError: the codec's encoder is a point, or what `bound` raises.
    """
    if not isinstance(codec.posterior(x[:1]), Gaussian):
        raise UserError(
            "the codec of this model encodes to a point, not to a distribution, so the likelihood of data has no "
            "bound: leave --likelihood away, or train with --set codec=kl_vae"
        )
    parts = []
    for start in range(0, len(x), CHUNK):
        here = seeds[start : start + CHUNK].fold("codec")
        parts.append(likelihood_terms(codec, x[start : start + CHUNK], here, level))
    z = torch.cat([p.z for p in parts])
    return LatentTerms(
        torch.cat([p.distortion for p in parts]),
        torch.cat([p.entropy for p in parts]),
        bound(denoiser, z, seeds, times, count=count, level=None, **cond),
    )
