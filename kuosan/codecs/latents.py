"""A data set of latents: every item encoded once, so that training a diffusion model never waits for the codec.

An item's latents are one draw from q(z | x), keyed by the seed and the item's number: draws, and not means, have
variance 1 and are what the bound of `likelihood` asks for. They are kept in half precision, whose rounding (2⁻¹²
of a value) is far below the draw's own noise. Of items that training sees in many views (windows that slide over a long
clip) several are encoded, the first of them the item as it lies in the data.
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
from kuosan.training.data import Items, TrainingItems


@dataclass(frozen=True)
class Latents:
    """Items whose states are latents, in one view or several (n, v, …), with the conditions of what they encode."""

    z: Float[Tensor, "n v c *sides"]
    cond: Mapping[str, Tensor]

    def __len__(self) -> int:
        return len(self.z)

    def batch(
        self, index: Int64[Tensor, " b"], seeds: Seeds | None = None
    ) -> tuple[Float[Tensor, "b c *sides"], dict[str, Tensor]]:
        """In single precision; with seeds any view of each, without them the first."""
        views = self.z.shape[1]
        view = torch.zeros_like(index) if seeds is None else (seeds.fold("view").uniforms() * views).long()
        return self.z[index, view].float(), {name: value[index, view] for name, value in self.cond.items()}


@dataclass(frozen=True)
class Drawn:
    """The same latents, in the first view, encoded each time that they are asked for."""

    codec: Codec
    items: Items
    seed: int = 0

    def __len__(self) -> int:
        return len(self.items)

    def batch(self, index: Int64[Tensor, " b"]) -> tuple[Float[Tensor, "b c *sides"], dict[str, Tensor]]:
        """In single precision, on the CPU."""
        x, cond = self.items.batch(index)
        z = _drawn(self.codec, x, Seeds.of(self.seed, index.tolist()).fold("latents"))
        return z, {name: value.cpu() for name, value in cond.items()}


@torch.no_grad()
def _drawn(codec: Codec, x: Float[Tensor, "b C *sides"], seeds: Seeds) -> Float[Tensor, "b c *sides"]:
    parts = [slice(start, start + CHUNK) for start in range(0, len(x), CHUNK)]
    return torch.cat([codec.encode(x[part].to(codec.shift), seeds[part]).cpu() for part in parts])


def encode_items(codec: Codec, items: TrainingItems, seed: int = 0, views: int = 1) -> Latents:
    """All items as latents, on the CPU, in so many views of each."""
    rows = torch.empty(len(items), views, *codec.latent_shape, dtype=torch.float16)
    conds: dict[str, list[Tensor]] = {}
    for index in torch.arange(len(items)).split(CHUNK):
        own, told = Seeds.of(seed, index.tolist()), []
        for view in range(views):
            x, cond = items.batch(index, own.fold("view", view)) if view else items.batch(index)
            rows[index, view] = _drawn(codec, x, own.fold("latents", *[view] * (view > 0))).half()
            told.append(cond)
        for name in told[0]:
            conds.setdefault(name, []).append(torch.stack([cond[name].cpu() for cond in told], 1))
    return Latents(rows, {name: torch.cat(values) for name, values in conds.items()})
