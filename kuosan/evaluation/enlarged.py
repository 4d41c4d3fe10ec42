"""How good are enlarged pictures? Held against what they were made small from, beside bicubic interpolation.

    enlarged_psnr, bicubic_psnr    10 log₁₀(4 / mean squared error) of states in [-1, 1], in dB
    enlarged_ssim, bicubic_ssim    structural similarity (Wang et al. 2004), with its authors' Gaussian window
    enlarged_fd,   bicubic_fd      Fréchet distance to other real pictures; the floor is that of the true ones
    enlarged_off                   largest difference between averages and the small picture, in levels

The first two ask for the one true picture, and so reward blur: of all the details that fit, the mean has the least
error. The third asks whether they look like any pictures of this kind (Blau & Michaeli 2018: no method is best at
both).
"""

from __future__ import annotations

import math
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from kuosan.evaluation.base import Better, Measurement
from kuosan.evaluation.features import FeatureSpace
from kuosan.evaluation.found import Found, Sides
from kuosan.evaluation.frechet import FrechetDistance

SIGMA, REACH = 1.5, 7  # of the window of SSIM; sides below 7 have none
LEAST = 4e-12  # an exact picture counts as 120 dB


def psnr(x: Float[Tensor, "n c h w"], y: Float[Tensor, "n c h w"]) -> Float[Tensor, " n"]:
    """Of each pair, in dB."""
    return 10 * torch.log10(4 / (x - y).double().square().flatten(1).mean(1).clamp_min(LEAST))


def ssim(x: Float[Tensor, "n c h w"], y: Float[Tensor, "n c h w"]) -> Float[Tensor, " n"]:
    """Of each pair, the mean over pixels and channels.

    Raises:
        ValueError: a side is below `REACH`.
    """
    from skimage.metrics import structural_similarity

    if min(x.shape[2:]) < REACH:
        raise ValueError(f"structural similarity needs sides of {REACH} or more, not {tuple(x.shape[2:])}")
    wide = min(x.shape[2:]) >= 11  # the window of its authors
    options = {"gaussian_weights": True, "sigma": SIGMA, "use_sample_covariance": False} if wide else {}
    values = [
        structural_similarity(a, b, channel_axis=0, data_range=2.0, **options)
        for a, b in zip(x.double().numpy(), y.double().numpy(), strict=True)
    ]
    return torch.tensor(values, dtype=torch.float64)


def judge_enlarged(
    found: Found,
    made: Float[Tensor, "n c h w"],
    bicubic: Float[Tensor, "n c h w"],
    truth: Float[Tensor, "n c h w"],
    others: Float[Tensor, "m c h w"],
    off: float,
    space: FeatureSpace,
) -> None:
    """All of the above into ``found``.

    Args:
        made, bicubic, truth: the same pictures.
        others: real ones.
        off: of `enlarged_off`.
        space: for the Fréchet distance.
    """
    for name, x in (("enlarged", made), ("bicubic", bicubic)):
        for what, score in (("psnr", psnr), ("ssim", ssim)):
            make = partial(_mean, f"{name}_{what}", "pixels", "higher", score, x, truth)
            found.attempt(f"{name}_{what}", make)
        sides = Sides(space(x), space(others), space(truth), "floor: the true pictures")
        found.compare(f"{name}_fd", FrechetDistance(), sides, space.name)
    found.metrics["enlarged_off"] = Measurement(
        name="enlarged_off", value=off, stderr=None, n=len(made), space="levels", better="lower",
        note="largest difference of an average from the small picture",
    )  # fmt: skip


def _mean(name: str, space: str, better: Better, score, x: Tensor, y: Tensor) -> Measurement:  # type: ignore[no-untyped-def]
    values = score(x, y)
    stderr = float(values.std()) / math.sqrt(len(values)) if len(values) > 1 else None
    return Measurement(
        name=name, value=float(values.mean()), stderr=stderr, n=len(values), space=space, better=better
    )
