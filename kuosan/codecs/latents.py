"""A data set of latents: every item encoded once, so that training a diffusion model never waits for the codec.

An item's latents are one draw from q(z | x), keyed by the seed and the item's number: draws, and not means, have
variance 1 and are what the bound of `likelihood` asks for. They are kept in half precision, whose rounding (2⁻¹²
of a value) is far below the draw's own noise.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from kuosan.codecs.base import Codec
from kuosan.codecs.measure import CHUNK
from kuosan.core.random import Seeds
from kuosan.training.data import Items


@dataclass(frozen=True)
class Latents:
    """Items whose states are latents, with the conditions of those that they encode."""

    z: Float[Tensor, "n c *sides"]
    cond: Mapping[str, Tensor]

    def __len__(self) -> int:
        return len(self.z)

    def batch(
        self, index: Int64[Tensor, " b"], seeds: Seeds | None = None
    ) -> tuple[Float[Tensor, "b c *sides"], dict[str, Tensor]]:
        """In single precision."""
        return self.z[index].float(), {name: value[index] for name, value in self.cond.items()}


@dataclass(frozen=True)
class Drawn:
    """The same latents, encoded each time that they are asked for."""

    codec: Codec
    items: Items
    seed: int = 0

    def __len__(self) -> int:
        return len(self.items)

    @torch.no_grad()
    def batch(self, index: Int64[Tensor, " b"]) -> tuple[Float[Tensor, "b c *sides"], dict[str, Tensor]]:
        """In single precision, on the CPU."""
        x, cond = self.items.batch(index)
        assert isinstance(x, Tensor)
        seeds, z = Seeds.of(self.seed, index.tolist()).fold("latents"), []
        for start in range(0, len(x), CHUNK):
            part = x[start : start + CHUNK].to(self.codec.shift)
            z.append(self.codec.encode(part, seeds[start : start + CHUNK]).cpu())
        return torch.cat(z), {name: value.cpu() for name, value in cond.items()}


def encode_items(codec: Codec, items: Items, seed: int = 0) -> Latents:
    """All items as latents, on the CPU."""
    drawn = Drawn(codec, items, seed)
    rows = torch.empty(len(items), *codec.latent_shape, dtype=torch.float16)
    conds: dict[str, list[Tensor]] = {}
    for index in torch.arange(len(items)).split(CHUNK):
        z, cond = drawn.batch(index)
        rows[index] = z.half()
        for name, value in cond.items():
            conds.setdefault(name, []).append(value)
    return Latents(rows, {name: torch.cat(values) for name, values in conds.items()})
