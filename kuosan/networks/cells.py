"""A transformer over the cells of a solid grid, at each of which one token stands.

Cells are read and written in patches of p × p × p, one position of the trunk each,

    h_q = W (E[x_q1], …, E[x_qC]) + A_1[i] + A_2[j] + A_3[k]
    scores of value v at cell c of q = E[v] · U_c LN(h'_q) + b_v                                   (1)

for the patch q at (i, j, k) of C = p³ cells, with the trunk of `tokens` between h and h'. The values of all cells share
one table E of few numbers each, so that what a colour is need not be learned for every corner of a patch. In attention
a third of a head's channels turns by each side (rotary positions of three axes); A says where the rim is, and the
floor.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from kuosan.core.nested import nested
from kuosan.networks.tokens import PIECE, TokenTransformer, axial, turning
from kuosan.networks.transformer import EPSILON

CHANNELS = 32  # numbers of a value
SCALE = 0.25  # of what comes into the trunk, as of texts


class CellTransformer(TokenTransformer):
    """Scores of every value of every cell.

    Args:
        size: values of a cell; ``size`` itself is the mask.
        sides: cells along depth, height and width. States are (b, n), in the order of `core.nested`.
        patch: cells along each side of a patch, a divisor of all sides.
        channels: numbers of a value, see the module.
        length: of a state, the product of the sides.
        trunk: dim, depth, heads, conditions, dropout and generator, as of `TokenTransformer`.
    """

    inside: Tensor
    outside: Tensor

    def __init__(
        self, size: int, *, sides: Sequence[int], patch: int, length: int, channels: int = CHANNELS, **trunk: Any
    ) -> None:  # fmt: skip
        if any(side % patch for side in sides) or math.prod(sides) != length:
            raise ValueError(f"a grid of {sides} is not of {length} cells in patches of {patch} a side")
        counts = [side // patch for side in sides]
        super().__init__(size, length=math.prod(counts), **trunk)
        self.sides, self.patch, self.channels, self.counts = tuple(sides), patch, channels, tuple(counts)
        cells = patch ** len(sides)
        self.tokens = nn.Parameter(torch.empty(size + 1, channels))  # in place of one as wide as the trunk
        self.read = nn.Parameter(torch.empty(self.dim, cells * channels))
        self.written = nn.Parameter(torch.empty(cells * channels, self.dim))
        self.axes = nn.ParameterList([nn.Parameter(torch.empty(n, self.dim)) for n in counts])
        patches = torch.arange(length).view(*(n for count in counts for n in (count, patch)))
        order = torch.empty(length, dtype=torch.int64)
        order[nested(sides)] = torch.arange(length)  # of each cell, line by line, its place in a state
        inside = order[patches.permute(0, 2, 4, 1, 3, 5).flatten()]
        self.register_buffer("inside", inside, persistent=False)
        self.register_buffer("outside", inside.argsort(), persistent=False)
        generator = trunk["generator"]
        with torch.no_grad():
            self.tokens.normal_(0, channels**-0.5, generator=generator)
            self.read.normal_(0, SCALE * cells**-0.5, generator=generator)
            self.written.normal_(0, 0.1 * self.dim**-0.5, generator=generator)
            for part in self.axes:
                part.normal_(0, SCALE / 2, generator=generator)

    def forward(
        self,
        x: Int64[Tensor, "b n"],
        t: Float[Tensor, "b"],
        clean: Int64[Tensor, "b n"] | None = None,
        only: Bool[Tensor, "b n"] | None = None,
        **cond: Int64[Tensor, "b"],
    ) -> Float[Tensor, "... k"]:
        """Unnormalised log-probabilities, see `TokenTransformer.forward`."""
        b, places = len(x), math.prod(self.counts)
        found = F.embedding(x[:, self.inside], self.tokens).view(b, places, -1)
        h = F.linear(found, self.read) + self._places()
        attend = turning(*axial(self.counts, self.dim // self.heads, h.device))
        h, shift, scale = self._trunk(h, t, cond, attend)
        h = torch.addcmul(shift, F.layer_norm(h, (self.dim,), eps=EPSILON), scale)
        told = F.linear(h, self.written).view(b, -1, self.channels)
        if only is None:
            return F.linear(told[:, self.outside], self.tokens[: self.size], self.bias)
        # Rows in the order of the state; few lengths, as in `TokenTransformer.forward`.
        asked = (self.outside + torch.arange(b, device=x.device)[:, None] * x.shape[1])[only]
        padded = F.pad(asked, (0, -len(asked) % PIECE))
        rows = told.flatten(0, 1)[padded]
        return F.linear(rows, self.tokens[: self.size], self.bias)[: len(asked)]

    def _places(self) -> Tensor:
        first, second, third = self.axes
        return (first[:, None, None] + second[:, None] + third).flatten(0, 2)
