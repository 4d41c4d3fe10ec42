"""An order of the cells of a grid in which neighbours stand near one another: boxes within boxes.

The place of a cell in the order is told by the halves that it lies in, along each side in turn, the coarsest first
(Morton 1966). So equal parts of the order are compact boxes of about one size, and places that are evenly apart in it
are spread evenly over the grid, which a walk line by line is not.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Int64
from torch import Tensor


def nested(sides: Sequence[int]) -> Int64[Tensor, " n"]:
    """The cells of a grid, numbered line by line with the last side fastest, in this order. Sides are halved alike
    whatever their lengths: coordinates are first stretched to the power of two that the longest needs."""
    bits, axes = (max(sides) - 1).bit_length(), len(sides)
    grids = torch.meshgrid(*(torch.arange(n) * (1 << bits) // n for n in sides), indexing="ij")
    key = torch.zeros(*sides, dtype=torch.int64)
    for bit in range(bits):
        for axis, grid in enumerate(grids):
            key |= (grid >> bit & 1) << (bit * axes + axes - 1 - axis)
    return key.flatten().argsort(stable=True)
