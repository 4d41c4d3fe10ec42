"""An autoregressive transformer over tokens, the rival of diffusion over texts and music.

The trunk is the one that masked diffusion has (`networks.tokens`), read from left to right; its loss is the negative
log-likelihood itself (`training.tokens`, eq. 3), and a sample is drawn token by token, each given those before. Voices
of music are read step by step, all voices of a step in their order, with a learned vector per position for the beat.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from kuosan.core.random import Seeds
from kuosan.networks.choose_tokens import heads_of
from kuosan.networks.tokens import TokenTransformer
from kuosan.rivals.base import Cond, Rival


class Autoregressive(Rival):
    """See the module.

    Args:
        size, length: values of a token, tokens of an item.
        dim, depth: of the trunk.
        places: whether positions have vectors of their own.
        conditions: column → number of values.
    """

    name: ClassVar[str] = "autoregressive"
    batch: ClassVar[int] = 32
    rate: ClassVar[float] = 2e-3

    def __init__(
        self,
        size: int,
        length: int,
        dim: int,
        depth: int,
        conditions: Mapping[str, int],
        generator: torch.Generator,
        *,
        places: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.length = length
        heads = next(n for n in range(heads_of(dim), 0, -1) if dim % (2 * n) == 0)
        self.trunk = TokenTransformer(
            size, dim=dim, depth=depth, heads=heads, block=1, places=length * places,
            conditions=conditions, dropout=dropout, length=length, generator=generator,
        )  # fmt: skip

    @property
    def network(self) -> TokenTransformer:
        return self.trunk

    def nats(self, x: Int64[Tensor, "b n"], cond: Cond, u: Tensor | None = None) -> Float[Tensor, "b n"]:
        """-log p of every token given those before it."""
        u = torch.zeros(len(x), dtype=torch.float64) if u is None else u
        scores = self.trunk(x, u.to(x.device), **cond).float()
        return F.cross_entropy(scores.flatten(0, 1), x.flatten(), reduction="none").view_as(x)

    def loss(self, turn: int, x: Tensor, cond: Cond, seeds: Seeds, progress: float) -> Tensor:
        return self.nats(x, cond, seeds.fold("dropout").uniforms()).mean()

    @torch.no_grad()
    def sample(self, cond: Cond, seeds: Seeds) -> Tensor:
        """One token after the other, each by the inverse of its distribution function."""
        x = torch.zeros(len(seeds), self.length, dtype=torch.int64, device=self.device)
        u = (
            seeds.fold("tokens")
            .uniform(torch.empty(len(seeds), self.length, dtype=torch.float64))
            .to(self.device)
        )
        t = torch.zeros(len(seeds), dtype=torch.float64, device=self.device)
        for i in range(self.length):
            p = self.trunk(x[:, : i + 1], t, **cond)[:, i].double().softmax(1)
            x[:, i] = (
                torch.searchsorted(p.cumsum(1), u[:, i : i + 1].contiguous())
                .squeeze(1)
                .clamp_max(p.shape[1] - 1)
            )
        return x


def solve_dim(
    count: int, size: int, length: int, depth: int, conditions: Mapping[str, int], places: bool
) -> int:
    """The width at which a network of this depth has about ``count`` parameters."""

    def parameters(dim: int) -> int:
        modulated = (6 * depth + 2) * dim * (dim + 1) if conditions else 0
        rows = sum(n + 1 for n in conditions.values())
        blocks = depth * (12 * dim * dim + 9 * dim)
        return (size + 1 + 6 * depth + 2 + rows + places * length) * dim + size + modulated + blocks

    return min(range(16, 2049, 8), key=lambda dim: abs(parameters(dim) - count))
