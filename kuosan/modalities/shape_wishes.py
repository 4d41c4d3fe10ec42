"""What can be asked of shapes when states are decoded: that they are symmetric, that they stand.

Both are projections: what satisfies a wish already comes back as it is.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

MIRRORS = {"x": -1, "y": -3}  # the axis of a state
FLAT = 0.8  # share of the layer above that a base has which is flat already


def mirrored(x: Float[Tensor, "b c d h w"], axes: str) -> Float[Tensor, "b c d h w"]:
    """With the fuller half in place of the other, along each of `axes`: nothing is averaged, so nothing is blurred."""
    for axis in axes:
        dim = MIRRORS[axis]
        half = x.shape[dim] // 2
        inside = (x[:, :1] < 0).flip(dim), x[:, :1] < 0
        upper, lower = (part.narrow(dim, 0, half).sum((1, 2, 3, 4)) for part in inside)
        x = torch.where((upper > lower).view(-1, 1, 1, 1, 1), x.flip(dim), x)  # the fuller half comes first
        middle = x.narrow(dim, half, x.shape[dim] % 2)
        first = x.narrow(dim, 0, half)
        x = torch.cat([first, middle, first.flip(dim)], dim)
    return x


def standing_flat(x: Float[Tensor, "b c d h w"], reach: float) -> Float[Tensor, "b c d h w"]:
    """Cut by the plane between the lowest cells and those below them, or where the lowest layer is a small part of the
    next (a point, a round belly), between these two: max(distance, distance to the plane)."""
    layers = (x[:, 0] < 0).sum((1, 3))  # (b, h)
    height = torch.arange(x.shape[3])
    lowest = torch.where(layers > 0, height, x.shape[3]).amin(1)
    at = torch.stack([lowest, lowest + 1], 1).clamp(max=x.shape[3] - 1)
    base, above = layers.gather(1, at).T
    raised = (base < FLAT * above) & (above > 0)
    plane = lowest - 0.5 + raised
    below = (plane[:, None] - height) / reach
    out = x.clone()
    out[:, 0] = torch.maximum(x[:, 0], below.clamp(-1, 1)[:, None, :, None].to(x.dtype))
    return out
