"""Passages of music: windows of a stream of steps, each with the transpositions that it allows."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Int64
from torch import Tensor

from kuosan.core.random import Seeds
from kuosan.modalities.ragged import Ragged


@dataclass(frozen=True, eq=False)
class Passages:
    """Windows of pieces (`ragged`), and by how many semitones each may be moved, down and up."""

    windows: Ragged
    down: Int64[Tensor, " n"]
    up: Int64[Tensor, " n"]

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, index: Tensor | slice) -> Passages:
        return Passages(self.windows[index], self.down[index], self.up[index])

    def moves(self, seeds: Seeds) -> Int64[Tensor, " n"]:
        """A transposition of each, of all that it allows."""
        u = seeds.fold("transpose").uniforms()
        return (u * (self.up + self.down + 1)).floor().long() - self.down
