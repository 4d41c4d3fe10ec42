"""What a network is told of given parts: which entries of a state are known already, and what they are.

    seen = [ where(mask, known, x),  mask ]            twice the channels of x                        (1)

A given entry needs no denoising, and its noise says nothing of the others (given the data it is independent of them),
so the network sees it clean, in its place, and the mask tells it so. With nothing given the mask is 0, and the network
is one that was never told of parts. (Voleti et al. 2022, MCVD, and Saharia et al. 2022, Palette, condition in this way
on frames and on regions.)

The pair comes in beside the conditions, under a name that no column of a table bears.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float
from torch import Tensor

GIVEN = "(given)"


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
