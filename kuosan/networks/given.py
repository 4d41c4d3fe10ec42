"""What a network is told of given parts: which entries of a state are known already, and what they are.

    seen = [ where(mask, known, x),  mask ]            twice the channels of x                        (1)

A given entry needs no denoising, and its noise says nothing of the others (given the data it is independent of them),
so the network sees it clean, in its place, and the mask tells it so. With nothing given the mask is 0, and the network
is one that was never told of parts. (Voleti et al. 2022, MCVD, and Saharia et al. 2022, Palette, condition in this way
on frames and on regions.)

The pair comes in beside the conditions, under a name that no column of a table bears. A network that was not told of
parts learns to be from where it stands: the weights of the mask's channels begin at 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

GIVEN = "(given)"
FIRST = {
    "transformer": "embed.weight", "unet": "unet.conv_in.weight", "stock": "unet.conv_in.weight",
    "residual-unet": "first.weight",
}  # fmt: skip
"""By kind of network: the weights that what comes in meets, channels along their second axis."""


def told(
    known: Float[Tensor, "b c *sides"], mask: Bool[Tensor, "b c *sides"]
) -> Float[Tensor, "b 2c *sides"]:
    """The condition `GIVEN`: the mask, and what is known where it is true."""
    return torch.cat([mask.to(known), known * mask], 1)


def seen(
    x: Float[Tensor, "b c *sides"], cond: Mapping[str, Tensor]
) -> tuple[Float[Tensor, "b 2c *sides"], dict[str, Tensor]]:
    """Eq. 1, and the other conditions; where nothing is given a mask of 0."""
    rest = {name: value for name, value in cond.items() if name != GIVEN}
    if (given := cond.get(GIVEN)) is None:
        return torch.cat([x, torch.zeros_like(x)], 1), rest
    mask, known = given.to(x).chunk(2, dim=1)
    return torch.cat([torch.where(mask > 0, known, x), mask], 1), rest


def made_to_see(
    weights: Mapping[str, Tensor], network: Mapping[str, Any], prefix: str = ""
) -> dict[str, Tensor]:
    """The weights of a network of this specification for the same one with given parts, which says the same without."""
    name, channels = prefix + FIRST[network["kind"]], int(network["channels"])
    first = weights[name]
    if network["kind"] == "transformer":
        return {**weights, name: torch.cat([first, torch.zeros_like(first)], 1)}
    blank = torch.zeros_like(first[:, :channels])
    return {**weights, name: torch.cat([first[:, :channels], blank, first[:, channels:]], 1)}


def blind(weights: Mapping[str, Tensor], network: Mapping[str, Any], prefix: str = "") -> dict[str, Tensor]:
    """The weights of the same network without given parts, which answers as this one does where there are none; undoes
    `made_to_see`."""
    name, channels = prefix + FIRST[network["kind"]], int(network["channels"])
    first = weights[name]
    if network["kind"] == "transformer":
        return {**weights, name: first[:, : first.shape[1] // 2]}
    return {**weights, name: torch.cat([first[:, :channels], first[:, 2 * channels :]], 1)}
