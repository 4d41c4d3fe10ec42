"""What can be asked of shapes when states are decoded: that they stand, are symmetric, are of one piece.

All are projections: what satisfies a wish already comes back as it is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

MIRRORS = {"x": -1, "y": -3}  # the axis of a state
LEAST = 1e-3  # of a distance inside a hollow that is filled
FLAT = 0.8  # share of the layer above that a base has which is flat already


@dataclass(frozen=True)
class ShapeWishes:
    """Of decoded shapes.

    Args:
        symmetric: axes (x, y) across which they are mirror images of themselves.
        flat_base: they stand on a plane.
        one_piece: they hang together, and nothing in them is hollow.
    """

    symmetric: str = ""
    flat_base: bool = False
    one_piece: bool = False

    def __call__(self, x: Float[Tensor, "b c d h w"], reach: float) -> Float[Tensor, "b c d h w"]:
        """States, whose first channel is a distance over ``reach``, as they are asked for."""
        x = mirrored(standing_flat(x, reach) if self.flat_base else x, self.symmetric)
        return in_one_piece(x, self.symmetric) if self.one_piece else x


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


def in_one_piece(x: Float[Tensor, "b c d h w"], axes: str = "") -> Float[Tensor, "b c d h w"]:
    """The largest of the parts whose cells share faces, without the others and without hollows: there the distance
    has the other sign. With ``axes`` it is the largest of those that are mirror images of themselves, if any is."""
    if not len(x):
        return x
    inside = x[:, 0] < 0
    found = [_filled(_main(one, axes)) if one.any() else one for one in inside.numpy()]
    whole = torch.from_numpy(np.stack(found))
    turned = torch.where(whole, -x[:, 0].abs().clamp_min(LEAST), x[:, 0].abs())
    out = x.clone()
    out[:, 0] = torch.where(whole == inside, x[:, 0], turned)
    return out


def _main(inside: NDArray[np.bool_], axes: str) -> NDArray[np.bool_]:
    parts, count = ndimage.label(inside)
    sizes = np.bincount(parts.ravel(), minlength=count + 1)[1:]
    order = 1 + np.argsort(-sizes, kind="stable")
    own = (k for k in order if all((np.flip(parts == k, MIRRORS[a]) == (parts == k)).all() for a in axes))
    found: NDArray[np.bool_] = parts == next(own, order[0])
    return found


def _filled(inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """With the air that no way through faces of cells leads to from outside."""
    air, _ = ndimage.label(np.pad(~inside, 1, constant_values=True))
    found: NDArray[np.bool_] = (air != air[0, 0, 0])[1:-1, 1:-1, 1:-1]
    return found
