"""Feature spaces: where distances between items are taken.

A space maps states (n, c, *sides), pictures in [−1, 1] or others, to rows (n, d) and says what it is:

    pixels      the picture itself, area-averaged down where it has more than 1024 numbers, so that d × d
                covariances stay tractable; blind to meaning, but needs no training and hides nothing
    raw         the same of any other state
    encoder     a small convolutional network trained on the reference data (encoder.py)
    inception   2048 features of the network that published FIDs use (inception.py); local weights only
    dinov2, …   those of a network that sees, by its kind (vision.py); a local folder only

A distance in one space says nothing about a distance in another: every measurement names its space.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate

from kuosan.core.shapes import PICTURE
from kuosan.networks.sides import times

MOST_PIXELS = 1024


class Space(ABC):
    """A fixed map from items of some kind to rows; the same item gives the same row whatever its batch."""

    name: str

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """What the space is, in plain JSON, with a measure of its own quality where it has one."""


class FeatureSpace(Space):
    """A space of dense states."""

    @abstractmethod
    def __call__(self, x: Float[Tensor, "n c *sides"]) -> Float[Tensor, "n d"]:
        """Rows of features, on the CPU."""


@dataclass(frozen=True)
class Pixels(FeatureSpace):
    """Flattened states of `shape` (c, *sides), averaged over areas down to `size`."""

    shape: tuple[int, ...]
    size: tuple[int, ...]
    name: str = "pixels"

    @property
    def dimensions(self) -> int:
        """Numbers in a row."""
        return self.shape[0] * math.prod(self.size)

    def __call__(self, x: Float[Tensor, "n c *sides"]) -> Float[Tensor, "n d"]:
        if tuple(x.shape[1:]) != self.shape:
            raise ValueError(f"{self.name}: made for states of shape {self.shape}, got {tuple(x.shape[1:])}")
        small = x if self.size == self.shape[1:] else interpolate(x, self.size, mode="area")
        return small.flatten(1).cpu()

    def describe(self) -> dict[str, Any]:
        text = "flattened pixels" if self.name == "pixels" else "flattened states"
        if self.size != self.shape[1:]:
            text += f", area-averaged from {times(self.shape[1:])} to {times(self.size)}"
        return {"name": self.name, "what": text, "dimensions": self.dimensions}


def pixels(shape: Sequence[int], most: int = MOST_PIXELS, name: str = "pixels") -> Pixels:
    """The space of states (c, *sides) themselves with at most `most` dimensions, their proportions kept."""
    c, *sides = shape
    scale = min(1.0, (most / math.prod(shape)) ** (1 / len(sides)))
    size = [max(1, math.floor(side * scale + 1e-9)) for side in sides]
    if c * math.prod(size) > most:  # what is one wide already leaves more to the others
        longest = size.index(max(size))
        size[longest] = max(1, most * size[longest] // (c * math.prod(size)))
    return Pixels(tuple(shape), tuple(size), name)


def states(shape: Sequence[int], axes: Sequence[str]) -> Pixels:
    """That space under the name that it has for states with these axes."""
    return pixels(shape, name="pixels" if tuple(axes) == PICTURE else "raw")
