"""A line or a square of equal cells, and densities on it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

Array: TypeAlias = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class Box:
    """[low, high] in each of ``dims`` axes (1 or 2), cut into ``cells`` equal parts per axis.

    A density is one number per cell, in the shape ``(cells,) * dims``, the first axis first.
    """

    low: float
    high: float
    cells: int
    dims: int = 1

    def __post_init__(self) -> None:
        if not (self.low < self.high and self.cells > 2 and self.dims in (1, 2)):
            raise ValueError("a box has low < high, three cells or more, and one or two dimensions")

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.cells,) * self.dims

    @property
    def width(self) -> float:
        """Of a cell."""
        return (self.high - self.low) / self.cells

    @property
    def volume(self) -> float:
        """Of a cell."""
        return self.width**self.dims

    @property
    def edges(self) -> Float[Tensor, " cells+1"]:
        """Of the cells along an axis."""
        return torch.linspace(self.low, self.high, self.cells + 1, dtype=torch.float64)

    def centres(self) -> Float[Tensor, "m d"]:
        """The middle of every cell, in the order of a flattened density."""
        return self._points(None)

    def faces(self, axis: int) -> Float[Tensor, "m d"]:
        """The middle of every face between two cells along ``axis``, in the same order."""
        return self._points(axis)

    def _points(self, faces: int | None) -> Tensor:
        middles = (self.edges[1:] + self.edges[:-1]) / 2
        lines = [self.edges[1:-1] if axis == faces else middles for axis in range(self.dims)]
        return torch.stack(torch.meshgrid(*lines, indexing="ij"), -1).flatten(0, -2)

    def density(self, log_density: Callable[[Tensor], Tensor]) -> Tensor:
        """exp of a log density (m, d) → (m,), at the centres."""
        return log_density(self.centres()).exp().reshape(self.shape)

    def histogram(self, x: Float[Tensor, "b d"]) -> Tensor:
        """The density of drawn states; those beyond the box are missing from its mass."""
        place = ((x.double() - self.low) / self.width).floor().long()
        place = place[((place >= 0) & (place < self.cells)).all(1)]
        index = place[:, 0] if self.dims == 1 else place[:, 0] * self.cells + place[:, 1]
        counts = torch.bincount(index, minlength=self.cells**self.dims).double()
        return counts.reshape(self.shape) / (len(x) * self.volume)

    def coarsened(self, factor: int) -> Box:
        """The box of cells ``factor`` times as wide."""
        if self.cells % factor:
            raise ValueError(f"{self.cells} cells cannot be joined by {factor}")
        return Box(self.low, self.high, self.cells // factor, self.dims)

    def averaged(self, q: Tensor, factor: int) -> Tensor:
        """A density of this box on the coarsened one."""
        coarse = self.coarsened(factor).cells
        if self.dims == 1:
            return q.reshape(coarse, factor).mean(1)
        return q.reshape(coarse, factor, coarse, factor).mean((1, 3))

    def distance(self, p: Tensor, q: Tensor) -> float:
        """∫ |p - q|: 0 the same, 2 apart; half of it is the mass that would have to move."""
        return float((p - q).abs().sum()) * self.volume
