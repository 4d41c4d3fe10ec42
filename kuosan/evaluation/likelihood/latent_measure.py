"""How surprised a latent diffusion is by items that it has not seen: eq. 1 of `latent`, cross-fitted as `fold` says.

Of the estimates of `measure`, the bound in continuous time alone: few steps and the flow would be the diffusion's, in
latents, and the codec's terms beside them the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from kuosan.codecs.base import Codec
from kuosan.codecs.latents import Drawn
from kuosan.core.random import Seeds
from kuosan.denoisers.base import Denoiser
from kuosan.evaluation.likelihood.bound import plan
from kuosan.evaluation.likelihood.effort import Effort
from kuosan.evaluation.likelihood.fold import CHUNK, Chosen, Fit, Rounds, shuffled
from kuosan.evaluation.likelihood.latent import LatentTerms, latent_bound
from kuosan.evaluation.likelihood.measure import (
    Likelihood,
    by_number,
    compressed,
    mean_and_error,
    measurements,
)
from kuosan.evaluation.likelihood.times import Times
from kuosan.training.data import Items


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
    """See the module.

    Args:
        fit: gives the denoiser with the reverse variances that are optimal for some latents.
        train, held_out: states; two or more held out.
        level: distance of two levels of the data in [-1, 1]; None is a density.
        tell: is told what goes on.

    Raises:
        UserError: as `latent_bound`.
    """
    rounds = Rounds(device, seed, tell)
    chosen = shuffled(held_out, effort.n, seed)
    dims = held_out.batch(torch.arange(1))[0].numel()
    unit = dims * (1.0 if level is None else math.log(2))
    measured: list[LatentTerms] = []
    columns: dict[str, list[Tensor]] = {}
    for side in (0, 1):
        mine, other = (Chosen(chosen, torch.arange(k, len(chosen), 2)) for k in (side, 1 - side))
        denoiser, times = _fitted(fit, Drawn(codec, other, seed), effort, rounds)
        one = partial(_one, codec, denoiser, times, effort.count, level)
        measured.append(LatentTerms.join(rounds("bound", mine, len(mine), one)))
        if effort.train and side:
            seen = shuffled(train, effort.train, seed)
            terms = LatentTerms.join(rounds("bound of training items", seen, len(seen), one))
            columns["train"] = [terms.total / unit]
    columns = {"bound": [t.total / unit for t in measured]} | columns
    parts = {name: [t.parts[name] / unit for t in measured] for name in measured[0].parts}
    notes = {
        "bound": f"codec and diffusion of latents, in continuous time, {effort.count} calls an item",
        "train": "the bound of items that the model was trained on",
    }
    examples = {"bound": columns["bound"]} | parts
    return Likelihood(
        measurements(columns, notes, level),
        {name: (m["value"], m["stderr"]) for name, v in parts.items() if (m := mean_and_error(torch.cat(v)))},
        {},
        {name: by_number(values, chosen.numbers, len(held_out)) for name, values in examples.items()},
        {
            "unit": "nats per dimension" if level is None else "bits per dimension",
            "dimensions": dims,
            "lzma": None if level is None else compressed(chosen, level),
        },
    )


def _fitted(fit: Fit, latents: Items, effort: Effort, rounds: Rounds) -> tuple[Denoiser, Times]:
    """The denoiser and the times for these latents."""
    rounds.tell("fitting variances")
    denoiser = fit(latents)
    batches = rounds("choosing times", latents, effort.planned, lambda x, seeds, **cond: (x, cond))
    return denoiser, plan(denoiser, batches, Seeds.of(rounds.seed, CHUNK).fold("plan"), cells=effort.cells)


def _one(
    codec: Codec, denoiser: Denoiser, times: Times, count: int, level: float | None, x: Tensor, seeds: Seeds,
    **cond: Any,
) -> LatentTerms:  # fmt: skip
    return latent_bound(codec, denoiser, x, seeds, times, count=count, level=level, **cond)
