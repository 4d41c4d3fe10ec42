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

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from kuosan.codecs.base import Codec
from kuosan.codecs.latents import Drawn
from kuosan.codecs.likelihood import likelihood_terms
from kuosan.core.posteriors import Gaussian
from kuosan.core.random import Seeds
from kuosan.denoisers.base import Denoiser
from kuosan.errors import UserError
from kuosan.evaluation.base import Measurement
from kuosan.evaluation.likelihood.bound import Terms, bound, plan
from kuosan.evaluation.likelihood.effort import Effort
from kuosan.evaluation.likelihood.fold import CHUNK as ROUND
from kuosan.evaluation.likelihood.fold import Chosen, Fit, Items, Rounds, shuffled
from kuosan.evaluation.likelihood.measure import Likelihood, compressed, mean_and_error
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


def measure_latent_likelihood(
    codec: Codec,
    fit: Fit,
    train: Items,
    held_out: Items,
    *,
    level: float | None,
    effort: Effort,
    device: torch.device,
    seed: int = 0,
    tell: Callable[[str], None] = lambda what: None,
) -> Likelihood:
    """Eq. 1 of held-out items, and of training items beside it, as `measure_likelihood` gives it; of the estimates there,
    the bound in continuous time alone.

    Args:
        fit: gives the denoiser with the reverse variances that are optimal for some latents.
        train, held_out: states; two or more held out.
        level: distance of two levels of the data in [-1, 1]; None is a density.

    Raises:
        UserError: as `latent_bound`.
    """
    rounds = Rounds(device, seed, tell)
    chosen = shuffled(held_out, effort.n, seed)
    dims = held_out.batch(torch.arange(1))[0].numel()
    unit = dims * (1.0 if level is None else math.log(2))
    found: list[LatentTerms] = []
    trained: list[LatentTerms] = []
    for side in (0, 1):
        mine, other = (Chosen(chosen, torch.arange(k, len(chosen), 2)) for k in (side, 1 - side))
        latents = Drawn(codec, other, seed)
        tell("fitting variances")
        denoiser = fit(latents)
        batches = rounds("choosing times", latents, effort.planned, lambda x, seeds, **cond: (x, cond))
        times = plan(denoiser, batches, Seeds.of(seed, ROUND).fold("plan"))

        def one(x: Tensor, seeds: Seeds, **cond: Any) -> LatentTerms:
            return latent_bound(codec, denoiser, x, seeds, times, count=effort.count, level=level, **cond)  # noqa: B023

        found += rounds("bound", mine, len(mine), one)
        if effort.train and not side:
            trained = rounds(
                "bound of training items", shuffled(train, effort.train, seed), effort.train, one
            )
    parts = {name: torch.cat([part(t) for t in found]) / unit for name, part in PARTS.items()}
    columns = {"bound": torch.cat([t.total for t in found]) / unit}
    notes = {"bound": f"codec and diffusion of latents, in continuous time, {effort.count} calls an item"}
    if trained:
        columns["train"] = torch.cat([t.total for t in trained]) / unit
        notes["train"] = "the bound of items that the model was trained on"
    order = torch.cat([torch.arange(side, len(chosen), 2) for side in (0, 1)])
    numbers = chosen.numbers[order]
    prefix, space = ("nll", "density") if level is None else ("bits", "levels of the data")
    return Likelihood(
        {
            f"{prefix}_{name}": Measurement(
                name=f"{prefix}_{name}", n=len(values), space=space, better="lower", note=notes[name],
                **mean_and_error(values),
            )
            for name, values in columns.items()
        },
        {name: (m["value"], m["stderr"]) for name, values in parts.items() if (m := mean_and_error(values))},
        {},
        {name: _placed(v, numbers, len(held_out)) for name, v in (parts | {"bound": columns["bound"]}).items()},
        {
            "unit": "nats per dimension" if level is None else "bits per dimension",
            "dimensions": dims,
            "lzma": None if level is None else compressed(chosen, level),
        },
    )  # fmt: skip


PARTS: dict[str, Callable[[LatentTerms], Tensor]] = {
    "distortion": lambda t: t.distortion,
    "entropy": lambda t: -t.entropy,
    "prior": lambda t: t.prior.prior,
    "diffusion": lambda t: t.prior.diffusion,
    "reconstruction": lambda t: t.prior.reconstruction,
}


def _placed(values: Tensor, numbers: Tensor, count: int) -> Tensor:
    """By the number of the item, NaN where there is none."""
    out = torch.full((count,), math.nan, dtype=torch.float64)
    out[numbers] = values
    return out
