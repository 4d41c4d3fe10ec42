"""What is measured of a codec rather than trained: its units, its decoder's variance, its round trip.

    shift = E[m],    scale² = var[m] + E[v],    s² = E[(x − decode(z))²],  z ~ q(z | x)                       (1)

per channel of the latents, and over all numbers of the states: the shift and scale that give z mean 0 and
variance 1, and the variance under which the decoder's Gaussian makes these data most probable.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from kuosan.codecs.base import Codec
from kuosan.codecs.likelihood import kl_to_normal
from kuosan.core.posteriors import Gaussian
from kuosan.core.random import Seeds
from kuosan.training.data import Items

CHUNK = 8  # whole pictures, or clips, at a time
MOST_ITEMS = 256  # that are measured
LEAST_ERROR = 4e-12  # an exact picture counts as 120 dB


@dataclass(frozen=True)
class RoundTrip:
    """decode(encode(x)) against x, over n pictures.

    ``psnr`` is the mean of 10 log₁₀(4 / mean squared error) over pictures, in dB, for states between −1 and 1, and
    ``psnr_stderr`` its standard error (nan for one picture). ``kl`` is KL(q(z | x) ‖ N(0, I)) in nats per latent
    number, in the codec's own units, with its standard error; None for a codec whose encoder is a point.
    """

    psnr: float
    psnr_stderr: float
    kl: float | None
    kl_stderr: float | None
    n: int


@torch.no_grad()
def calibrate(codec: Codec, items: Items, seeds: Seeds) -> None:
    """Set shift, scale and log_noise by eq. (1) over at most `MOST_ITEMS` items, evenly spread."""
    first = torch.zeros(codec.latent, dtype=torch.float64)
    second, error, count, start = first.clone(), 0.0, 0, 0
    for x in states_of(items, MOST_ITEMS, codec.shift):
        q = codec.posterior(x)
        first += q.mean.cpu().double().flatten(2).mean(2).sum(0)
        spread = q.variance.cpu().double() if isinstance(q, Gaussian) else 0.0
        second += (q.mean.cpu().double() ** 2 + spread).flatten(2).mean(2).sum(0)
        y = codec.decode(q.sample(seeds[start : start + len(x)]))
        error += float((x - y).cpu().double().square().flatten(1).mean(1).sum())
        count, start = count + len(x), start + len(x)
    shift = first / count
    scale = (second / count - shift**2).clamp_min(1e-12).sqrt()
    codec.shift += codec.scale * shift.to(codec.shift)  # these were measured in the scaled latents of before
    codec.scale *= scale.to(codec.scale)
    codec.log_noise.fill_(math.log(max(error / count, LEAST_ERROR)))


@torch.no_grad()
def round_trip(codec: Codec, items: Items) -> RoundTrip:
    """What `RoundTrip` says, over at most `MOST_ITEMS` items, evenly spread."""
    errors, kls = [], []
    for x in states_of(items, MOST_ITEMS, codec.shift):
        errors.append((x - codec.decode(codec.encode(x))).square().flatten(1).mean(1))
        mean, log_var = codec.moments(codec.padded(x))
        if log_var is not None:
            kls.append(kl_to_normal(mean, log_var) / mean[0].numel())
    psnr = psnr_of(torch.cat(errors))
    kl = torch.cat(kls).cpu().double() if kls else None
    return RoundTrip(
        float(psnr.mean()),
        _stderr(psnr),
        None if kl is None else float(kl.mean()),
        None if kl is None else _stderr(kl),
        len(psnr),
    )


def psnr_of(errors: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """In dB, of mean squared errors of states between −1 and 1."""
    return 10 * torch.log10(4 / errors.cpu().double().clamp_min(LEAST_ERROR))


def _stderr(values: Float[Tensor, " n"]) -> float:
    return float(values.std() / len(values) ** 0.5) if len(values) > 1 else math.nan


def states_of(items: Items, most: int, like: Tensor) -> Iterator[Tensor]:
    """States of at most so many items, evenly spread, a few at a time, of the type and device of ``like``."""
    count = min(len(items), most)
    index = torch.arange(count) * len(items) // count
    for part in index.split(CHUNK):
        yield items.batch(part)[0].to(like)
