"""Augmentations of pictures that do not leak into samples.

A training picture is mirrored, turned, shifted, stretched or recoloured now and then, and the network is told what was
done, as a vector beside its other conditions; asked with the vector 0, as it always is once it is trained, it answers
for pictures as they are (Karras et al. 2020, 2022 appendix F.2). So a few pictures become many, and none of what was
done to them shows in samples.

    x' = colour( scale( shift( turn( mirror(x) ) ) ) ),   v = what was done, 0 for nothing               (1)

Each kind is done with probability p, independently, drawn from the item's own seed. Mirrors, turns by right angles and
shifts by whole pixels move pixels and change none; what comes in at an edge is the picture reflected there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from kuosan.core.random import Seeds
from kuosan.core.shapes import BESIDE
from kuosan.networks.conditions import AUGMENT
from kuosan.training.data import TrainingItems

KINDS = ("flip", "turn", "shift", "scale", "colour")

# What v holds: mirrored; cos θ - 1 and sin θ of the turn; shifts down and right as shares of the sides; log₂ of the
# scale and of the aspect; brightness; log₂ of the contrast.
FLIP, COS, SIN, DOWN, RIGHT, SCALE, ASPECT, BRIGHTNESS, CONTRAST = range(9)
WIDTH = 9
FARTHEST = 1 / 8  # of a side
SPREAD = {SCALE: 0.2, ASPECT: 0.2, BRIGHTNESS: 0.2, CONTRAST: 0.3}  # standard deviations


@dataclass(frozen=True)
class Augmentation:
    """These kinds, each with probability ``p``."""

    kinds: tuple[str, ...]
    p: float

    def draw(self, shape: tuple[int, int], seeds: Seeds) -> Float[Tensor, "b v"]:
        """v of eq. 1 for pictures of this height and width, one per seed."""
        u = seeds.fold("augment").uniform(torch.empty(len(seeds), 2 * len(KINDS) + 1, dtype=torch.float64))
        z = seeds.fold("amounts").normal(torch.empty(len(seeds), len(SPREAD), dtype=torch.float64))
        on = {kind: (u[:, k] < self.p) & (kind in self.kinds) for k, kind in enumerate(KINDS)}
        a, b, height, width = u[:, len(KINDS)], u[:, len(KINDS) + 1], *shape
        v = torch.zeros(len(seeds), WIDTH, dtype=torch.float64)
        v[:, FLIP] = on["flip"].double()
        quarters = 1 + (3 * a).floor() if height == width else torch.full_like(a, 2)  # others would not fit
        angle = on["turn"] * quarters * (math.pi / 2)
        v[:, COS], v[:, SIN] = angle.cos() - 1, angle.sin()
        for place, share, side in ((DOWN, a, height), (RIGHT, b, width)):
            most = round(FARTHEST * side)
            pixels = ((2 * most + 1) * share).floor() - most
            v[:, place] = on["shift"] * pixels / side
        for k, (place, spread) in enumerate(SPREAD.items()):
            v[:, place] = on["colour" if place in (BRIGHTNESS, CONTRAST) else "scale"] * spread * z[:, k]
        return v.float()


def moved(x: Float[Tensor, "b c h w"], v: Float[Tensor, "b v"]) -> Float[Tensor, "b c h w"]:
    """x' of eq. 1; rows whose v is 0 come back untouched."""
    x = torch.where(v[:, FLIP, None, None, None] > 0.5, x.flip(3), x)
    quarters = (torch.atan2(v[:, SIN], v[:, COS] + 1) / (math.pi / 2)).round().long() % 4
    for k in (1, 2, 3):
        if bool((turned := quarters == k).any()):
            x = torch.where(turned[:, None, None, None], x.rot90(k, (2, 3)), x)
    x = _shifted(_shifted(x, v[:, DOWN], 2), v[:, RIGHT], 3)
    stretched = (v[:, SCALE] != 0) | (v[:, ASPECT] != 0)
    if bool(stretched.any()):
        x = x.clone()
        x[stretched] = _stretched(x[stretched], v[stretched])
    return _recoloured(x, v)


def _shifted(x: Tensor, share: Tensor, axis: int) -> Tensor:
    side = x.shape[axis]
    pixels = (share * side).round().long()
    if not bool(pixels.any()):
        return x
    from_ = torch.arange(side) - pixels[:, None]
    from_ = torch.where(from_ < 0, -1 - from_, from_)
    from_ = torch.where(from_ >= side, 2 * side - 1 - from_, from_)
    index = from_[:, None, :, None] if axis == 2 else from_[:, None, None, :]
    return x.gather(axis, index.expand_as(x))


def _stretched(x: Tensor, v: Tensor) -> Tensor:
    """About the middle, by bilinear interpolation: twice the scale shows half of the picture."""
    rows = 2.0 ** -(v[:, SCALE] - v[:, ASPECT] / 2)
    columns = 2.0 ** -(v[:, SCALE] + v[:, ASPECT] / 2)
    matrix = torch.zeros(len(x), 2, 3)
    matrix[:, 0, 0], matrix[:, 1, 1] = columns, rows
    where = F.affine_grid(matrix, list(x.shape), align_corners=False)
    return F.grid_sample(x, where.to(x), padding_mode="reflection", align_corners=False)


def _recoloured(x: Tensor, v: Tensor) -> Tensor:
    """Contrast about 0 and brightness of the colours; opacity, if it is there, stays."""
    contrast, brightness = 2.0 ** v[:, CONTRAST], v[:, BRIGHTNESS]
    if not bool(((contrast != 1) | (brightness != 0)).any()):
        return x
    colours = x.shape[1] - (x.shape[1] in (2, 4))
    there = contrast[:, None, None, None] * x[:, :colours] + brightness[:, None, None, None]
    return torch.cat([there, x[:, colours:]], 1)


@dataclass(frozen=True)
class Augmented:
    """Items whose pictures, and maps beside them, are augmented where they are drawn from seeds, with v among their
    conditions."""

    items: TrainingItems
    how: Augmentation

    def __len__(self) -> int:
        return len(self.items)

    def batch(self, index: Int64[Tensor, " b"], seeds: Seeds | None = None) -> tuple[Any, dict[str, Tensor]]:
        x, cond = self.items.batch(index, seeds)
        if seeds is None:
            return x, cond
        assert isinstance(x, Tensor)
        v = self.how.draw((x.shape[2], x.shape[3]), seeds)
        if BESIDE in cond:  # a map goes where its picture goes, and has no colours
            still = v.clone()
            still[:, [BRIGHTNESS, CONTRAST]] = 0
            cond = {**cond, BESIDE: moved(cond[BESIDE], still)}
        return moved(x, v), {**cond, AUGMENT: v}
