"""Tokens that a position may not have: the simplest rule, one table of what is permitted.

Of what the network says, q(x_i), only the permitted values are left, in their proportions,

    q'(x_i = k) ∝ q(x_i = k) [k is permitted at i]                                                  (1)

which is the posterior given the rule, as positions are independent in q. It holds for every sample, at any number of
steps. Rules that tie positions together need `guidance.language`.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool
from torch import Tensor

from kuosan.core.posteriors import Categorical
from kuosan.core.shapes import State, Time
from kuosan.denoisers.base import Denoiser


class Permitted(Denoiser):
    """Eq. 1 around a denoiser of tokens.

    Args:
        table: what is permitted, of every position and value, (L, k); each position has a value that is.
    """

    def __init__(self, denoiser: Denoiser, table: Bool[Tensor, "L k"]):
        super().__init__()
        if not bool(table.any(1).all()):
            raise ValueError("a position has no permitted value")
        self.denoiser, self.table, self.process = denoiser, table, denoiser.process

    def along(self, times: tuple[Time, ...], like: State) -> Denoiser:
        return Permitted(self.denoiser.along(times, like), self.table)

    def forward(self, x_t: State, t: Time, **cond: Tensor) -> Categorical:
        q = self.denoiser(x_t, t, **cond)
        if not isinstance(q, Categorical):
            raise TypeError(f"a table of tokens bends probabilities of tokens, not a {type(q).__name__}")
        return Categorical(q.logits.masked_fill(~self.table.to(q.logits.device), -torch.inf))
