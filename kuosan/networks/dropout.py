"""Dropout whose masks are a function of each example, not of a global random state.

`torch.nn.Dropout` draws from the process-wide generator, so a run that is killed and resumed, or that
shares its process with anything else, takes another course. A diffusion network sees a fresh noise label with
every example of every training batch; here the bits of that label are the key of the example's masks, and a mask
is a hash of the key, the layer and the place in it (16 bits of one, so that a rate is met within 1/65,536). The same
example therefore meets the same masks wherever and whenever it is computed, whoever its neighbours in the batch are: a
batch may be worked on in parts, or by several processes, and nothing has to be saved in order to resume a run bit for
bit.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int32
from torch import Tensor, nn

_ROUNDS = ((16, 0x7FEB352D), (15, 0x846CA68B))  # Wellons's hash of 32 bits, "lowbias32"
_STRIDE = 0x9E3779B9  # the golden ratio's fraction of 2^32: places that lie far apart
_WORD, _HALF = 1 << 32, 1 << 16


class Dropout(nn.Module):
    """Inverted dropout (Srivastava et al. 2014) with rate `rate`, seeded by `reseed` before each pass."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        if not 0 <= rate < 1:
            raise ValueError(f"dropout must lie in [0, 1), got {rate}")
        self.rate = rate
        self.keys: Int32[Tensor, "b"] | None = None

    def forward(self, x: Float[Tensor, "b ..."]) -> Float[Tensor, "b ..."]:
        if not self.training or self.rate == 0:
            return x
        if self.keys is None:
            raise RuntimeError("call reseed(network, label) before a training pass with dropout")
        count = x[0].numel()
        pairs = torch.arange((count + 1) // 2, dtype=torch.int32, device=x.device).mul_(_signed(_STRIDE))
        hashes = _mix(self.keys.to(x.device)[:, None] ^ pairs)
        bits = hashes.view(torch.int16)[:, :count]  # one hash for two places
        keep = (bits >= round(self.rate * _HALF) - _HALF // 2).view(x.shape)
        return x * keep.to(x.dtype).div_(1 - self.rate)


def reseed(layers: list[Dropout], label: Float[Tensor, "b"]) -> None:
    """Give every layer the examples' keys, from the bits of their noise labels; each layer has its own."""
    # Both halves of a double: a float's are often all zero in one of them.
    halves = label.detach().double().contiguous().view(torch.int32).view(len(label), 2)
    root = _mix(_mix(halves[:, 0].clone()) ^ halves[:, 1])
    for index, layer in enumerate(layers):
        layer.keys = _mix(root ^ _signed((index + 1) * _STRIDE))


def _mix(x: Int32[Tensor, "..."]) -> Int32[Tensor, "..."]:
    """A bijection of 32-bit numbers whose every output bit depends on every input bit; in place."""
    for shift, factor in _ROUNDS:
        x ^= (x >> shift).bitwise_and_((1 << 32 - shift) - 1)  # int32 shifts its sign along
        x *= _signed(factor)
    return x.bitwise_xor_((x >> 16).bitwise_and_((1 << 16) - 1))


def _signed(x: int) -> int:
    """The int32 with these bits."""
    return (x + _WORD // 2) % _WORD - _WORD // 2
