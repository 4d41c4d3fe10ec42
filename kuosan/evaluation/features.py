"""Feature spaces: where distances between pictures are taken.

A space maps pictures in [−1, 1], (n, c, h, w), to rows (n, d) and says what it is:

    pixels      the picture itself, area-averaged down where it has more than 1024 numbers, so that d × d
                covariances stay tractable; blind to meaning, but needs no training and hides nothing
    encoder     a small convolutional network trained on the reference data (encoder.py)
    inception   2048 features of the network that published FIDs use (inception.py); local weights only

A distance in one space says nothing about a distance in another: every measurement names its space.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate

MOST_PIXELS = 1024


class Space(ABC):
    """A fixed map from items of some kind to rows; the same item gives the same row whatever its batch."""

    name: str

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """What the space is, in plain JSON, with a measure of its own quality where it has one."""


class FeatureSpace(Space):
    """A space of pictures."""

    @abstractmethod
    def __call__(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d"]:
        """Rows of features, on the CPU."""


@dataclass(frozen=True)
class Pixels(FeatureSpace):
    """Flattened pictures of `shape` (c, h, w), averaged over areas down to `size` (h', w')."""

    shape: tuple[int, int, int]
    size: tuple[int, int]
    name: str = "pixels"

    @property
    def dimensions(self) -> int:
        """Numbers in a row."""
        return self.shape[0] * math.prod(self.size)

    def __call__(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d"]:
        if tuple(x.shape[1:]) != self.shape:
            raise ValueError(f"pixels: made for pictures of shape {self.shape}, got {tuple(x.shape[1:])}")
        small = x if self.size == self.shape[1:] else interpolate(x, self.size, mode="area")
        return small.flatten(1).cpu()

    def describe(self) -> dict[str, Any]:
        text = "flattened pixels"
        if self.size != self.shape[1:]:
            text += f", area-averaged from {self.shape[1]}×{self.shape[2]} to {self.size[0]}×{self.size[1]}"
        return {"name": self.name, "what": text, "dimensions": self.dimensions}


def pixels(shape: tuple[int, int, int], most: int = MOST_PIXELS) -> Pixels:
    """The pixel space of pictures (c, h, w) with at most `most` dimensions, its aspect ratio kept."""
    c, h, w = shape
    if c * h * w <= most:
        return Pixels(shape, (h, w))
    scale = math.sqrt(most / (c * h * w))
    height = min(h, max(1, math.floor(h * scale)))
    width = min(w, max(1, math.floor(w * scale), most // (c * height) if h * scale < 1 else 1))
    height = min(height, max(1, most // (c * width)))
    return Pixels(shape, (height, width))
