"""A convolutional U-Net of our own for states of one, two or three sides: sounds, motions, clips, volumes.

The blocks are those of Dhariwal & Nichol 2021 (section 3 and appendix A): group norm, SiLU and a convolution, twice,
the label and the conditions scaling and shifting after the second norm,

    h ← h + conv( SiLU( (1 + scale) · norm( conv( SiLU( norm(h) ) ) ) + shift ) )                       (1)

with attention at chosen levels, skips from the way down to the way up, and the last convolution of every block at
zero, so that the network starts as the constant 0. (Pictures have `networks.unet`, which opens in diffusers.)

A level halves a side only where at least `SHORTEST` places are left of it: a clip of 8 frames of 64×64 is halved in
space more often than in time. Sides that cannot be halved so often are padded by repeating the edge, and cropped.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from kuosan.networks.attention import attention
from kuosan.networks.captions import CaptionEncoder, Heard, Reading
from kuosan.networks.conditions import ConditionTable
from kuosan.networks.dropout import Dropout, reseed
from kuosan.networks.given import channels_in, seen
from kuosan.networks.sides import CONVOLUTIONS, coordinates_of, cropped, padded, places, times
from kuosan.networks.transformer import LABEL_FEATURES, label_frequencies
from kuosan.networks.view import WHOLE, View

SHORTEST = 4  # places that halving must leave of a side
HEAD = 32  # channels per attention head


def halvings(sides: Sequence[int], levels: int) -> list[tuple[int, ...]]:
    """By what each side is divided from every level to the next."""
    out, left = [], list(sides)
    for _ in range(levels - 1):
        by = tuple(2 if side >= 2 * SHORTEST else 1 for side in left)
        left = [-(-side // b) for side, b in zip(left, by, strict=True)]
        out.append(by)
    return out


def _norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(
        max(g for g in range(1, 33) if channels % g == 0 and (channels >= 4 * g or g == 1)), channels
    )


class Residual(nn.Module):
    """Eq. 1, with attention behind it where ``attend``, and there also to captions with states of length ``reads``."""

    def __init__(
        self, sides: int, before: int, after: int, label: int, dropout: float, attend: bool, reads: int = 0
    ) -> None:
        super().__init__()
        convolution = CONVOLUTIONS[sides - 1]
        self.norm1, self.conv1 = _norm(before), convolution(before, after, 3, padding=1)
        self.modulation = nn.Linear(label, 2 * after)
        self.norm2, self.conv2 = _norm(after), convolution(after, after, 3, padding=1)
        self.skip = convolution(before, after, 1) if before != after else nn.Identity()
        self.drop = Dropout(dropout)
        self.heads = next(n for n in range(max(1, after // HEAD), 0, -1) if after % n == 0)
        self.norm3 = _norm(after) if attend else None
        self.qkv = nn.Linear(after, 3 * after) if attend else None
        self.out = nn.Linear(after, after) if attend else None
        self.read = Reading(after, self.heads, reads) if attend and reads else None

    def forward(
        self, h: Float[Tensor, "b c *sides"], label: Float[Tensor, "b e"], heard: Heard | None = None
    ) -> Float[Tensor, "b o *sides"]:
        u = self.conv1(F.silu(self.norm1(h)))
        scale, shift = self.modulation(F.silu(label))[(..., *(None,) * (h.ndim - 2))].chunk(2, 1)
        u = F.silu(torch.addcmul(shift, self.norm2(u), 1 + scale))
        h = self.skip(h) + self.conv2(self.drop(u) if self.drop.rate else u)
        h = h if self.norm3 is None else h + self._attended(self.norm3(h))
        if self.read is None or heard is None:
            return h
        return h + self.read(h.flatten(2).transpose(1, 2), heard).transpose(1, 2).view_as(h)

    def _attended(self, u: Tensor) -> Tensor:
        assert self.qkv is not None and self.out is not None
        b, c, *sides = u.shape
        qkv = self.qkv(u.flatten(2).transpose(1, 2)).view(b, -1, 3, self.heads, c // self.heads)
        a = attention(*qkv.permute(2, 0, 3, 1, 4).unbind(0)).transpose(1, 2).reshape(b, -1, c)
        return self.out(a).transpose(1, 2).reshape(b, c, *sides)


class ResidualUNet(nn.Module):
    """See the module.

    Args:
        channels, sides: of the states, in and out.
        base, mults, blocks: level i has base·mults[i] channels and so many blocks, one more on the way up.
        attention: levels (0 is full resolution) with self-attention.
        out_channels, conditions, augment, given, beside, captions, dropout, generator: as for `Transformer`; captions
            are read wherever it attends, and in the middle.
        coordinates: more channels come in that say where each place lies along every side, so that crops can be shown.
    """

    where: Tensor
    frequencies: Tensor

    def __init__(
        self,
        channels: int,
        sides: Sequence[int],
        *,
        base: int,
        mults: Sequence[int],
        blocks: int,
        attention: Sequence[int],
        out_channels: int | None = None,
        conditions: Mapping[str, int] | None = None,
        augment: int = 0,
        coordinates: bool = False,
        given: bool = False,
        beside: int = 0,
        captions: Mapping[str, Any] | None = None,
        dropout: float = 0.0,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        widths = [base * m for m in mults]
        if not widths or min(widths) < 1 or blocks < 1 or not 1 <= len(sides) <= len(CONVOLUTIONS):
            raise ValueError(
                f"a U-Net needs one to three sides, and levels, widths and blocks of at least 1, got {widths}"
            )
        if bad := [level for level in attention if not 0 <= level < len(widths)]:
            raise ValueError(f"attention levels {bad} do not exist; there are {len(widths)} levels")
        self.sides, self.coordinates, s, label = tuple(sides), coordinates, len(sides), 4 * base
        self.given, self.beside = given, beside
        self.by = halvings(sides, len(widths))
        self.factor = tuple(math.prod(by[k] for by in self.by) for k in range(s))
        convolution = CONVOLUTIONS[s - 1]

        reads = int(captions["dim"]) if captions else 0

        def block(before: int, after: int, level: int, middle: bool = False) -> Residual:
            attend = level in set(attention) or (middle and reads > 0)
            return Residual(s, before, after, label, dropout, attend, reads)

        with torch.device("meta"):  # no default initialisation: it would draw from the global generator
            self.label1, self.label2 = nn.Linear(LABEL_FEATURES, label), nn.Linear(label, label)
            self.first = convolution(
                channels_in(channels, given, beside) + s * coordinates, widths[0], 3, padding=1
            )
            self.down, self.up = nn.ModuleList(), nn.ModuleList()
            skips, c = [widths[0]], widths[0]
            for level, width in enumerate(widths):
                for _ in range(blocks):
                    self.down.append(block(c, width, level))
                    c = width
                    skips.append(c)
                if level < len(widths) - 1:
                    skips.append(c)
            self.middle = block(c, c, len(widths) - 1, middle=True)
            for level, width in reversed([*enumerate(widths)]):
                for _ in range(blocks + 1):
                    self.up.append(block(c + skips.pop(), width, level))
                    c = width
            self.norm, self.last = _norm(c), convolution(c, out_channels or channels, 3, padding=1)
        self.levels, self.blocks = len(widths), blocks
        self.to_empty(device="cpu")
        self.table = ConditionTable(conditions or {}, label, augment)
        self.register_buffer("frequencies", label_frequencies(), persistent=False)
        self.register_buffer("where", coordinates_of(sides), persistent=False)
        self.drops = [m for m in self.modules() if isinstance(m, Dropout) and m.rate > 0]
        self._initialise(generator)
        self.captions = CaptionEncoder(label, **captions, generator=generator) if captions else None
        for module in self.modules():
            if isinstance(module, Reading):
                module.initialise(generator)

    @torch.no_grad()
    def _initialise(self, generator: torch.Generator) -> None:
        zero = {id(self.last)} | {
            id(m) for b in self.modules() if isinstance(b, Residual) for m in (b.conv2, b.out)
        }
        for layer in self.modules():
            if isinstance(layer, nn.GroupNorm):
                layer.weight.fill_(1)
                layer.bias.zero_()
            elif isinstance(layer, (nn.Linear, *CONVOLUTIONS)):
                if id(layer) in zero:
                    layer.weight.zero_()
                else:
                    fans = sum(layer.weight.shape[:2]) * layer.weight[0, 0].numel()
                    limit = math.sqrt(6 / fans)
                    layer.weight.uniform_(-limit, limit, generator=generator)
                if layer.bias is not None:
                    layer.bias.zero_()
        self.table.rows.normal_(0, 0.02, generator=generator)

    @property
    def grain(self) -> tuple[int, ...]:
        """See `UNet.grain`."""
        return self.factor

    def forward(
        self,
        x: Float[Tensor, "b c *sides"],
        label: Float[Tensor, "b"],
        view: View = WHOLE,
        /,
        **cond: Int64[Tensor, "b"],
    ) -> Float[Tensor, "b o *sides"]:
        """See `Transformer.forward`: same arguments, same result."""
        sides = tuple(x.shape[2:])
        if view.corner is None and sides != self.sides:
            raise ValueError(f"built for states of {times(self.sides)}, got {times(sides)}")
        if self.drops and self.training:
            reseed(self.drops, label)
        x, cond = seen(x, cond, self.given, self.beside)
        if self.coordinates:
            x = torch.cat([x, places(self.where.to(x), view.corner, x)], 1)
        angle = label[:, None].to(self.frequencies.dtype) * self.frequencies
        waves = torch.cat([angle.cos(), angle.sin()], 1).to(self.label1.weight.dtype)
        heard = None
        if self.captions is not None:
            heard, cond = self.captions.hear(cond, x)
        e = self.label2(F.silu(self.label1(waves))) + self.table(cond, len(x))
        e = e if heard is None else e + heard.pooled
        h = self.first(padded(x, [n + -n % f for n, f in zip(sides, self.factor, strict=True)]))
        skips, down, up = [h], iter(self.down), iter(self.up)
        for level in range(self.levels):
            for _ in range(self.blocks):
                h = next(down)(h, e, heard)
                skips.append(h)
            if level < self.levels - 1:
                h = _POOLS[len(sides) - 1](h, self.by[level])
                skips.append(h)
        h = self.middle(h, e, heard)
        for level in reversed(range(self.levels)):
            for _ in range(self.blocks + 1):
                h = next(up)(torch.cat([h, skips.pop()], 1), e, heard)
            if level:
                h = F.interpolate(h, scale_factor=[float(b) for b in self.by[level - 1]], mode="nearest")
        return cropped(self.last(F.silu(self.norm(h))), sides)


_POOLS = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)
