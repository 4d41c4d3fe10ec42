"""Dropout whose masks are a function of the batch, not of a global random state.

`torch.nn.Dropout` draws from the process-wide generator, so a run that is killed and resumed, or that
shares its process with anything else, takes another course. A diffusion network sees a fresh vector of
noise labels with every training batch; here the bits of that vector seed the masks of the whole forward
pass. The same batch therefore meets the same masks wherever and whenever it is computed, and nothing has
to be saved in order to resume a run bit for bit.
"""

from __future__ import annotations

import zlib

import torch
from jaxtyping import Float
from torch import Tensor, nn


class Dropout(nn.Module):
    """Inverted dropout (Srivastava et al. 2014) with rate `rate`, seeded by `reseed` before each pass."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        if not 0 <= rate < 1:
            raise ValueError(f"dropout must lie in [0, 1), got {rate}")
        self.rate = rate
        self.seed: int | None = None

    def forward(self, x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        if not self.training or self.rate == 0:
            return x
        if self.seed is None:
            raise RuntimeError("call reseed(network, label) before a training pass with dropout")
        generator = torch.Generator(device=x.device).manual_seed(self.seed)
        keep = torch.empty_like(x).bernoulli_(1 - self.rate, generator=generator)
        return x * keep / (1 - self.rate)


def reseed(layers: list[Dropout], label: Float[Tensor, "b"]) -> None:
    """Seed every layer from the bits of the noise labels; each layer gets its own stream."""
    # PyTorch's CPU generator reads the low 32 bits of a seed; a float's are often all zero: mix them.
    root = zlib.crc32(label.detach().to("cpu", torch.float64).contiguous().numpy().tobytes())
    for index, layer in enumerate(layers):
        layer.seed = zlib.crc32(index.to_bytes(4, "little"), root)
