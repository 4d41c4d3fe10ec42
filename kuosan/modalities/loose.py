"""Pictures of different sizes as storage: a tensor (c, h, w) each."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from kuosan.core.random import Seeds


@dataclass(frozen=True, eq=False)
class Loose:
    """Items of one type and one number of channels, each of its own height and width."""

    items: tuple[Tensor, ...]

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: Int64[Tensor, " b"] | slice) -> Loose:
        """The items at these places; nothing is copied."""
        if isinstance(index, slice):
            return Loose(self.items[index])
        return Loose(tuple(self.items[i] for i in index.tolist()))

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """Height and width of each."""
        return [(item.shape[1], item.shape[2]) for item in self.items]

    def stacked(self) -> Tensor:
        """All of them (b, c, h, w).

        Raises:
            ValueError: they are of several sizes.
        """
        if len(set(self.sizes)) > 1:
            raise ValueError(f"a batch is of one size, and these are of {sorted(set(self.sizes))}")
        return torch.stack(self.items)

    def crops(self, height: int, width: int, seeds: Seeds | None) -> Float[Tensor, "b c h w"]:
        """A part of each of that size, anywhere in it by the seeds of each; without seeds from the middle."""
        u = torch.full((len(self), 2), 0.5, dtype=torch.float64)
        if seeds is not None:
            u = seeds.fold("crop").uniform(u)
        out = []
        for item, (a, b) in zip(self.items, u.tolist(), strict=True):
            top, left = (
                int(share * (n - m + 1))
                for share, n, m in zip((a, b), item.shape[1:], (height, width), strict=True)
            )
            out.append(item[:, top : top + height, left : left + width])
        return torch.stack(out)
