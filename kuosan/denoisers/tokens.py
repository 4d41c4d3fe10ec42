"""A network over tokens as a denoiser: its scores are a distribution for every position.

A network that sees blocks (`networks.tokens`) is a denoiser of the process whose blocks are revealed from left to right
(`processes.blocks`): at every time the earlier blocks are clean, and it reads them as they are.
"""

from __future__ import annotations

import torch
from jaxtyping import Int64
from torch import Tensor, nn

from kuosan.core.posteriors import Categorical
from kuosan.core.shapes import Time
from kuosan.denoisers.base import Denoiser
from kuosan.processes.discrete import DiscreteProcess


def at_least_single(scores: Tensor) -> Tensor:
    """Scores in float32 or better: probabilities in half precision would not add up."""
    return scores.to(torch.promote_types(scores.dtype, torch.float32))


class TokenDenoiser(Denoiser):
    """A trained (or trainable) network over tokens.

    Args:
        process: the process that it was trained for.
        network: ``network(x_t, t, **cond) -> scores`` of every value of every token.
    """

    process: DiscreteProcess

    def __init__(self, process: DiscreteProcess, network: nn.Module):
        super().__init__()
        self.process, self.network = process, network

    def forward(self, x_t: Int64[Tensor, "b n"], t: Time, **cond: Tensor) -> Categorical:
        return Categorical(at_least_single(self.network(x_t, t.to(x_t.device), **cond)))
