"""What joins the patches of a transformer: two convolutions behind it, at the states' own resolution.

A transformer says the places of a patch from one token, and those on the other side of its edge from another, so that
edges show where it is uncertain. With x what the network sees, y what it says and c the silu of its condition vector,

    z = conv₁([x, y]),      y + conv₂(silu((1 + scale(c)) · z + shift(c)))                          (1)

which sees across edges and, two places far, x itself: what is exact in the noisy state need not go through a token.
conv₂ and the modulation begin at 0, so the network begins as the one without. (A small head of convolutions per patch
behind a transformer of pixels is the detailer of DiP, Chen et al. 2025; here it spans the patches.)
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from kuosan.networks.sides import CONVOLUTIONS


class Detailer(nn.Module):
    """Eq. 1.

    Args:
        seen, said: channels of x and of y.
        sides: how many of them the states have.
        width: channels between the convolutions.
        dim: length of the condition vector.
        generator: source of the initial weights.
    """

    def __init__(
        self, seen: int, said: int, sides: int, *, width: int, dim: int, generator: torch.Generator
    ) -> None:
        super().__init__()
        conv = CONVOLUTIONS[sides - 1]
        with torch.device("meta"):  # no default initialisation: it would draw from the global generator
            self.first = conv(seen + said, width, 3, padding=1)
            self.second = conv(width, said, 3, padding=1)
            self.modulation = nn.Linear(dim, 2 * width)
        self.to_empty(device="cpu")
        with torch.no_grad():
            fan_in, fan_out = (seen + said) * 3**sides, width * 3**sides
            limit = math.sqrt(6 / (fan_in + fan_out))  # Glorot & Bengio 2010, eq. 16
            self.first.weight.uniform_(-limit, limit, generator=generator)
            for zero in (self.first.bias, *self.second.parameters(), *self.modulation.parameters()):
                assert zero is not None
                zero.zero_()

    def forward(
        self, x: Float[Tensor, "b k *sides"], y: Float[Tensor, "b o *sides"], c: Float[Tensor, "b d"]
    ) -> Float[Tensor, "b o *sides"]:
        z = self.first(torch.cat([x, y.to(x.dtype)], 1))
        scale, shift = self.modulation(c).view(len(x), 2, -1, *(1,) * (x.ndim - 2)).unbind(1)
        return y + self.second(F.silu(torch.addcmul(shift, z, 1 + scale)))
