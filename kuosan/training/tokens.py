"""Objectives for networks over tokens, in nats per token.

Masked states: with n tokens of a text hidden at time t, whose survival curve is κ, the bound is

    -log p(x) ≤ ∫ κ'/(κ - 1) E[ Σ_{i hidden} -log q(x_i | x_t) ] dt                               (1)

(Shi et al. 2024, eq. 4; Sahoo et al. 2024, eq. 10). The rate in front, 1/t for κ = 1 - t, makes a batch with few
hidden tokens count as much as any other although it says less; the same sum with one weight for all times,

    2 E[ Σ_{i hidden} -log q(x_i | x_t) ]                                                         (2)

has the same minimum and less noise. Which of them learns faster is measured (benchmarks/results/text.md);
the held-out loss is always (1).

Networks whose blocks are causal train all of their blocks in one pass, each at a time of its own; with blocks of one
token (1) is the negative log-likelihood itself and needs no noise at all:

    -log p(x) = Σ_i -log q(x_i | x_1 … x_{i-1})                                                   (3)
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from kuosan.core.curves import derivative
from kuosan.core.random import Seeds
from kuosan.core.shapes import Time
from kuosan.denoisers.tokens import TokenDenoiser, at_least_single
from kuosan.training.objective import Bound, Objective
from kuosan.training.timing import Timing, UniformTiming

TokenWeight = Literal["bound", "even"]
GOLDEN = 0.6180339887498949  # multiples of it fill [0, 1) evenly (Weyl 1916)


class TokenObjective(Objective):
    """What all of them share."""

    judges: ClassVar[int] = 2**13
    axis: ClassVar[str] = "share of tokens under noise"

    def place(self, denoiser: TokenDenoiser, u: float) -> float:
        return 1 - float(denoiser.process.keep(torch.tensor([u], dtype=torch.float64)))


@dataclass(frozen=True)
class MaskedTokens(TokenObjective):
    """Eq. 1 or 2, of a masked process."""

    weight: TokenWeight = "bound"
    timing: Timing = field(default=UniformTiming(), init=False)

    def at_quantiles(
        self, denoiser: TokenDenoiser, x: Int64[Tensor, "b n"], u: Time, seeds: Seeds, **cond: Tensor
    ) -> Float[Tensor, " b"]:
        process = denoiser.process
        x_t = process.corrupt(x, u, seeds)
        hidden = x_t == process.size
        nats = hidden_nats(denoiser, x_t, x, hidden, u, **cond)
        weight = process.rate(u) / (1 - process.keep(u)) if self.weight == "bound" else torch.full_like(u, 2)
        return nats.sum(1) * weight.to(nats) / x.shape[1]

    def judged(self) -> MaskedTokens:
        return MaskedTokens("bound")


@dataclass(frozen=True)
class TokenBlocks(TokenObjective):
    """Eq. 1 of every block at once, each at its own time; see `networks.tokens`."""

    weight: TokenWeight = "bound"
    timing: Timing = field(default=UniformTiming(), init=False)

    def at_quantiles(
        self, denoiser: TokenDenoiser, x: Int64[Tensor, "b n"], u: Time, seeds: Seeds, **cond: Tensor
    ) -> Float[Tensor, " b"]:
        process, n = denoiser.process, x.shape[1]
        block = denoiser.network.block
        assert isinstance(block, int)
        steps = torch.arange(-(-n // block), dtype=torch.float64)
        times = (u[:, None] + GOLDEN * steps) % 1  # (b, blocks)
        curve = process.keep
        keep = curve(times.flatten()).view_as(times)
        rate = -derivative(curve, times.flatten()).view_as(times) / (1 - keep).clamp_min(1e-9)
        chance = seeds.fold("keep").uniform(x.double())

        def spread(c: Tensor) -> Tensor:
            """Of every token, what is its block's."""
            return c.repeat_interleave(block, 1)[:, :n].to(x.device)

        x_t = torch.where(chance < spread(keep), x, torch.full_like(x, process.size))
        hidden = x_t == process.size
        nats = hidden_nats(denoiser, x_t, x, hidden, u, clean=x, **cond)
        weight = spread(rate) if self.weight == "bound" else torch.full_like(spread(rate), 2)
        return (nats * weight.to(nats)).sum(1) / n

    def judged(self) -> TokenBlocks:
        return TokenBlocks("bound")


@dataclass(frozen=True)
class NextToken(TokenObjective):
    """Eq. 3, of a network with blocks of one token."""

    timing: Timing = field(default=UniformTiming(), init=False)

    def at_quantiles(
        self, denoiser: TokenDenoiser, x: Int64[Tensor, "b n"], u: Time, seeds: Seeds, **cond: Tensor
    ) -> Float[Tensor, " b"]:
        return hidden_nats(denoiser, x, x, torch.ones_like(x, dtype=torch.bool), u, **cond).mean(1)


@dataclass(frozen=True)
class UniformTokens(Bound, TokenObjective):
    """The bound of a process whose noise is a random token (`processes.discrete`, eq. 3)."""


def hidden_nats(
    denoiser: TokenDenoiser,
    x_t: Int64[Tensor, "b n"],
    x: Int64[Tensor, "b n"],
    hidden: Bool[Tensor, "b n"],
    t: Time,
    clean: Tensor | None = None,
    **cond: Tensor,
) -> Float[Tensor, "b n"]:
    """-log q(x_i | x_t) of the hidden tokens, 0 elsewhere; the output layer works on those alone."""
    scores = denoiser.network(x_t, t.to(x.device), clean, hidden, **cond)
    found = F.cross_entropy(at_least_single(scores), x[hidden], reduction="none")
    return torch.zeros(x.shape, dtype=found.dtype, device=x.device).masked_scatter(hidden, found)
