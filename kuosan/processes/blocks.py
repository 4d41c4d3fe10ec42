"""Block diffusion: masks that are lifted block by block, from left to right.

Of B blocks of ``block`` positions each, block j (0 is the leftmost) has a stretch of time for itself,

    κ_i(t) = κ(min(max(B t - (B - 1 - j), 0), 1)),      j = ⌊i/block⌋,                          (1)

so that at any time the blocks to the left are whole, those to the right are masked, and one is on its way (Arriola et
al. 2025). Everything else is the masked process's own: per position, κ_i falls from 1 to 0. One position per block
is an autoregressive model, whose bound is the likelihood itself, datum by datum; one block is `Masked`.

A bound at one time concerns one block. Its expectation over even times is that over all of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from kuosan.core.curves import derivative
from kuosan.core.shapes import Time
from kuosan.processes.discrete import Masked


@dataclass(frozen=True)
class BlockMasked(Masked):
    """Eq. 1 along the positions of a state in their order.

    Args:
        block: positions of a block; the last may have fewer.
    """

    block: int

    def __post_init__(self) -> None:
        if self.block < 1:
            raise ValueError(f"a block has one position or more, not {self.block}")

    def blocks(self, length: int) -> int:
        """B, of so many positions."""
        return -(-length // self.block)

    def _local(self, t: Time, x: Tensor) -> Float[Tensor, "b l"]:
        """Time within each position's own stretch: below 0 before it, above 1 after it."""
        length = x.shape[1:].numel()
        blocks = self.blocks(length)
        later = blocks - 1 - torch.arange(length, dtype=torch.float64) // self.block
        return t.double()[:, None] * blocks - later

    def keep_at(self, t: Time, x: Tensor) -> Float[Tensor, "b ..."]:
        return self._placed(self.keep(self._local(t, x).clamp(0, 1).flatten()), x)

    def rate_at(self, t: Time, x: Tensor) -> Float[Tensor, "b ..."]:
        local = self._local(t, x)
        slope = derivative(self.keep, local.clamp(0, 1).flatten()).reshape(local.shape)
        within = (local > 0) & (local <= 1)
        blocks = self.blocks(x.shape[1:].numel())
        return self._placed(torch.where(within, -slope * blocks, torch.zeros_like(slope)).flatten(), x)

    @staticmethod
    def _placed(values: Tensor, x: Tensor) -> Tensor:
        """Values of all positions in the shape of ``x`` and, where it is floating, in its type."""
        dtype = x.dtype if x.is_floating_point() else values.dtype
        return values.to(device=x.device, dtype=dtype).reshape(-1, *x.shape[1:])
