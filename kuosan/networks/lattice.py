"""A transformer over a lattice: one position per place of R × C, at which V tokens stand.

The tokens of a place are read together and written together,

    h_p = Σ_v E_v[x_pv] + A[row p] + B[column p],      scores of token v at p = E_v · LN(h'_p) + b_v                (1)

with the trunk of `tokens` between h and h'. In attention one half of a head's channels turns by the row and the other
by the column (rotary positions of two axes), so that what is learned of two neighbours holds for any two; A and B say
where the rim is, and which places tell of whole rows and columns.

`values` and `areas` say which values the tokens of a place can have at all; scores of the others are -inf.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from kuosan.networks.tokens import TokenTransformer, axial, turning
from kuosan.networks.transformer import EPSILON


class LatticeTransformer(TokenTransformer):
    """Scores of every value of every token of every place.

    Args:
        size: values of a token; ``size`` itself is the mask.
        rows, columns: of the lattice. voices: tokens of a place; states are (b, rows · columns · voices).
        values: lists of ranges [first, last] of values that there can be.
        areas: which of these lists applies to every voice, in the first place, in the others of the first row, of the
            first column, and everywhere else.
        length: rows · columns · voices.
        trunk: dim, depth, heads, conditions, dropout and generator, as of `TokenTransformer`.
    """

    allowed: Tensor

    def __init__(
        self,
        size: int,
        *,
        rows: int,
        columns: int,
        voices: int,
        values: Sequence[Sequence[Sequence[int]]],
        areas: Sequence[Sequence[int]],
        length: int,
        **trunk: Any,
    ) -> None:
        if rows * columns * voices != length:
            raise ValueError(f"a lattice of {rows}×{columns} places has not {length} tokens")
        if trunk["dim"] % (4 * trunk["heads"]):
            raise ValueError("dim must be a multiple of four times the heads")
        super().__init__(voices * (size + 1) - 1, length=rows * columns, **trunk)
        self.size, self.rows, self.columns, self.voices = size, rows, columns, voices
        self.bias = nn.Parameter(torch.zeros(voices, size))
        self.row, self.column = (nn.Parameter(torch.empty(n, self.dim)) for n in (rows, columns))
        table = torch.zeros(len(values), size, dtype=torch.bool)
        for line, spans in zip(table, values, strict=True):
            for first, last in spans:
                line[first : last + 1] = True
        area = torch.full((rows, columns), 3)
        area[0], area[:, 0], area[0, 0] = 1, 2, 0
        self.register_buffer("allowed", table[torch.tensor(areas)[area].flatten()], persistent=False)
        with torch.no_grad():
            for part in (self.row, self.column):
                part.normal_(0, 0.02, generator=trunk["generator"])

    @torch.no_grad()
    def begin_with(self, counts: Float[Tensor, " k"]) -> None:
        """Start from how often each value occurs, in all voices alike."""
        self.bias.copy_((counts + 1e-3 * counts.sum() / len(counts)).log() - counts.sum().log())

    def forward(
        self,
        x: Int64[Tensor, "b n"],
        t: Float[Tensor, "b"],
        clean: Int64[Tensor, "b n"] | None = None,
        only: Bool[Tensor, "b n"] | None = None,
        **cond: Int64[Tensor, "b"],
    ) -> Float[Tensor, "... k"]:
        """Unnormalised log-probabilities, see `TokenTransformer.forward`."""
        first = torch.arange(self.voices, device=x.device) * (self.size + 1)
        h = F.embedding(x.view(len(x), -1, self.voices) + first, self.tokens).sum(2)
        h = h + (self.row[:, None] + self.column[None]).flatten(0, 1)
        attend = turning(*axial((self.rows, self.columns), self.dim // self.heads, h.device))
        h, shift, scale = self._trunk(h * (self.dim / self.voices) ** 0.5 * 0.25, t, cond, attend)
        scores = self._scores(h, shift, scale).view(*x.shape, self.size)
        scores = scores.masked_fill(~self.allowed, -torch.inf)
        return scores if only is None else scores[only]

    def _scores(self, h: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
        h = torch.addcmul(shift, F.layer_norm(h, (self.dim,), eps=EPSILON), scale)
        table = self.tokens.view(self.voices, self.size + 1, self.dim)[:, : self.size]
        return F.linear(h, table.flatten(0, 1), self.bias.flatten())
