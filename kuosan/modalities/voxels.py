"""Voxels: shapes on one side, one token for each cell of a grid (b, n) on the other.

    token = 0 where a cell is empty, else 1 + the place of its colour in the palette                   (1)

(1 alone where shapes have no colours), the cells in the order of `core.nested`. What is stored is what `shape` stores,
so that both read the same data alike and are measured alike: of a mesh the cells that it fills. Palettes have at most
`VoxelModality.colours` colours unless more are asked for; blocks come back exactly but for that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from kuosan.core.nested import nested
from kuosan.core.random import Seeds
from kuosan.modalities.base import Gathered, Modality, register
from kuosan.modalities.folder import Folder
from kuosan.modalities.shape import LEVELS, ShapeModality
from kuosan.modalities.shape_raw import Shape


@dataclass(frozen=True)
class Values:
    """What numbers tokens."""

    size: int
    kind: ClassVar[str] = "cells"
    exact: ClassVar[bool] = True


@register
class VoxelModality(ShapeModality):
    """Cells in one `form`."""

    name: ClassVar[str] = "voxels"
    files_of: ClassVar[str] = "shape"
    axes: ClassVar[tuple[str, ...]] = ()
    colours: ClassVar[int] = 31  # with emptiness 32 values: scores of all cells are many numbers

    @property
    def shape(self) -> tuple[int]:
        return (int(np.prod(self.form.sides)),)

    @property
    def length(self) -> int:
        """Tokens of a state."""
        return self.shape[0]

    @property
    def tokeniser(self) -> Values:
        return Values(1 + max(1, len(self.form.palette)))

    @property
    def level(self) -> None:
        return None

    @property
    def distances(self) -> ShapeModality:
        """The same form with states of numbers, which is what shapes are measured in."""
        return ShapeModality(self.form, self.wishes)

    def described_form(self) -> str:
        depth, height, width = self.form.sides
        return f"{self.noun} of {width}×{depth}×{height} cells of {self.tokeniser.size} values"

    @classmethod
    def gather(cls, folder: Folder, like: Modality[Any] | None, **options: Any) -> Gathered:
        """As shapes are read, in the form of voxels."""
        return ShapeModality.gather(folder, like, **{**options, "form": "voxels"})

    def resolved(self) -> dict[str, Any]:
        return super().resolved() | {"modality": "shape", "form": "voxels", "vocabulary": self.tokeniser.size}

    @cached_property
    def _order(self) -> Tensor:
        return nested(self.form.sides)

    @cached_property
    def _paints(self) -> tuple[Tensor, Tensor]:
        """The palette's colours as numbers, rising, and the token of each."""
        table = torch.tensor(self.form.palette, dtype=torch.int64) @ torch.tensor([65536, 256, 1])
        ordered, place = table.sort()
        return ordered, place + 1

    def tokens(self, storage: Tensor) -> Int64[Tensor, "b n"]:
        """Eq. (1) of what is stored."""
        x = (storage[:, 0] <= LEVELS // 2).long()
        if self.form.palette:
            ordered, token = self._paints
            paint = storage[:, 1:].long()
            number = (paint[:, 0] * 256 + paint[:, 1]) * 256 + paint[:, 2]
            x = x * token[torch.searchsorted(ordered, number).clamp_max(len(ordered) - 1)]
        return self.ordered(x)

    def ordered(self, x: Tensor) -> Tensor:
        """What stands at cells (…, depth, height, width) in the order of states (…, n)."""
        return x.flatten(-3)[..., self._order]

    def grid(self, x: Int64[Tensor, "b n"]) -> Float[Tensor, "b c d h w"]:
        """States as `distances` has them, but for how far cells are from a face: 1 or -1 alone."""
        cells = torch.empty_like(x)
        cells[:, self._order] = x
        cells = cells.view(len(x), *self.form.sides)
        planes = [1.0 - 2 * (cells > 0).float()]
        if self.form.palette:
            colour = torch.tensor(self.form.palette, dtype=torch.float32)[(cells - 1).clamp_min(0)]
            planes += (colour * (2 / LEVELS) - 1).unbind(-1)
        return torch.stack(planes, 1)

    def encode(self, raws: Sequence[Shape]) -> Int64[Tensor, "b n"]:
        if not raws:
            return torch.zeros(0, self.length, dtype=torch.int64)
        return self.tokens(torch.from_numpy(np.stack([self.fit(raw) for raw in raws])))

    def decode(self, x: Int64[Tensor, "b n"]) -> list[Shape]:
        if x.ndim != 2 or x.shape[1] != self.length:
            raise ValueError(f"expected states of shape (b, {self.length}), got {tuple(x.shape)}")
        return self._blocks(self._as_asked(self.grid(x.cpu())))

    def to_state(self, storage: Tensor, seeds: Seeds | None = None) -> Int64[Tensor, "b n"]:
        """Eq. (1) of storage (b, c, depth, height, width); with seeds, half of them in each mirror."""
        return self.tokens(self.views(storage, seeds))
