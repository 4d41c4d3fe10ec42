"""The convolutional U-Net of DDPM, built from `diffusers`, for accelerators and long budgets.

The network itself is `diffusers.UNet2DModel` (Ho et al. 2020, appendix B: residual blocks with group norm,
attention at chosen levels, skip connections), so a trained one opens in `diffusers` unchanged. This file adds
what a person's own data need around it:

- conditions: one column is the U-Net's own class table with one more row for null; several columns, and what tells
  of augmentations, are summed in our table and handed in as a ready-made embedding (`class_embed_type="identity"`);
- any image size: sides that are no multiple of 2^(levels−1) are padded at the right and bottom by repeating
  the edge, and cropped at the end;
- any width: the group norms have as many groups, up to 32, as divide every level and leave four channels
  each (a group of one channel subtracts away what the noise label and the condition add to that channel), and
  that embedding scales and shifts after the norm, not before (Dhariwal & Nichol 2021, section 3);
- crops (Patch Diffusion, Wang et al. 2023): with ``coordinates`` two more channels say where in the whole picture
  each pixel lies, from -1 to 1, so that a crop is known for what it is; `diffusers` has no place for them;
- initial weights from an explicit generator: uniform with variance 2/(fan_in + fan_out), zero for the last
  layer of each residual branch and of the network (Ho et al. 2020), so the network starts as the constant 0.

`diffusers` is imported when the first U-Net is built, not with this module: it costs a second or more.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from kuosan.networks.attention import widen
from kuosan.networks.conditions import ConditionTable
from kuosan.networks.dropout import Dropout, reseed
from kuosan.networks.given import channels_in, seen
from kuosan.networks.sides import coordinates_of, cropped, padded, places, times
from kuosan.networks.view import WHOLE, View


def unet_config(
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
) -> dict[str, Any]:
    """The arguments of `diffusers.UNet2DModel`, all of them JSON values.

    Args:
        base: channels of the first level; level i has base·mults[i].
        blocks: residual blocks per level.
        attention: levels (0 is full resolution) with self-attention.
        out_channels: where more is said of each pixel than one value a channel.
        conditions: column → number of values.
        augment: length of the vector that tells of augmentations.
        coordinates: two more channels come in.
        given: as many channels more come in as there are. beside: and so many that stand beside the state.
    """
    widths = [base * m for m in mults]
    if not widths or min(widths) < 1 or blocks < 1:
        raise ValueError(f"a U-Net needs levels, widths and blocks of at least 1, got {widths}, {blocks}")
    if bad := [level for level in attention if not 0 <= level < len(widths)]:
        raise ValueError(f"attention levels {bad} do not exist; there are {len(widths)} levels")
    common = math.gcd(*widths)
    has = [level in set(attention) for level in range(len(widths))]
    columns = list((conditions or {}).values())
    return {
        "sample_size": list(sides),
        "in_channels": channels_in(channels, given, beside) + (2 if coordinates else 0),
        "out_channels": out_channels or channels,
        "block_out_channels": widths,
        "layers_per_block": blocks,
        "down_block_types": ["AttnDownBlock2D" if a else "DownBlock2D" for a in has],
        "up_block_types": ["AttnUpBlock2D" if a else "UpBlock2D" for a in reversed(has)],
        "add_attention": any(has),
        "norm_num_groups": max(g for g in range(1, 33) if common % g == 0 and common >= 4 * g or g == 1),
        "resnet_time_scale_shift": "scale_shift",
        "attention_head_dim": max(d for d in range(1, 33) if common % d == 0),
        "num_class_embeds": columns[0] + 1 if len(columns) == 1 and not augment else None,
        "class_embed_type": "identity" if len(columns) > 1 or augment else None,
    }


class UNet(nn.Module):
    """`diffusers.UNet2DModel` with conditions, any image size, crops and explicit initial weights.

    Args:
        channels, sides: of the images, in and out.
        base, mults, blocks, attention, out_channels, coordinates, given, beside: see `unet_config`.
        conditions: column → number of values n; index n means null.
        augment: see `ConditionTable`.
        dropout: rate in the residual blocks, in training mode.
        generator: source of the initial weights.
    """

    where: Tensor

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
        free: bool = False,
        dropout: float = 0.0,
        generator: torch.Generator,
    ) -> None:
        from diffusers import UNet2DModel

        super().__init__()
        self.channels, self.sides, self.coordinates = channels, tuple(sides), coordinates
        self.given, self.beside, self.free = given, beside, free
        self.conditions = dict(conditions or {})
        self.factor = 2 ** (len(mults) - 1)
        self.config = unet_config(
            channels,
            sides,
            base=base,
            mults=mults,
            blocks=blocks,
            attention=attention,
            out_channels=out_channels,
            conditions=conditions,
            augment=augment,
            coordinates=coordinates,
            given=given,
            beside=beside,
        )
        with torch.device("meta"):
            unet: Any = UNet2DModel(**self.config)
        self.unet = unet.to_empty(device="cpu")
        widen(self.unet)
        self.drops: list[Dropout] = []
        replace_dropout(self.unet, dropout, self.drops)
        self.summed = self.config["class_embed_type"] == "identity"
        self.table = ConditionTable(self.conditions if self.summed else {}, 4 * base, augment)
        unet_weights(self.unet, generator)
        with torch.no_grad():
            self.table.rows.normal_(0, 0.02, generator=generator)
        self.register_buffer("where", coordinates_of(sides), persistent=False)

    @property
    def grain(self) -> tuple[int, ...]:
        """What a crop's sides and corner are multiples of: then every level halves it where it halves the whole."""
        return (self.factor,) * len(self.sides)

    def _around(self, sides: tuple[int, ...]) -> Float[Tensor, "s *sides"]:
        """Coordinates of a state of other sides, about the same middle and as far apart."""
        scale = torch.tensor([n / m for n, m in zip(sides, self.sides, strict=True)])
        return coordinates_of(sides) * scale[:, None, None]

    def labels(self, cond: Mapping[str, Int64[Tensor, "b"]], batch: int) -> Tensor | None:
        """What `UNet2DModel` wants as `class_labels`: nothing, indices (b) or summed rows (b, 4·base)."""
        if len(self.conditions) != 1 or self.summed:
            rows = self.table(cond, batch)
            return rows if self.summed else None
        if unknown := sorted(set(cond) - set(self.conditions)):
            raise ValueError(f"unknown condition {unknown}; this network has {sorted(self.conditions)}")
        (name, n) = next(iter(self.conditions.items()))
        given = cond.get(name)
        device = self.unet.conv_in.weight.device
        return torch.full((batch,), n, dtype=torch.int64, device=device) if given is None else given

    def forward(
        self,
        x: Float[Tensor, "b c h w"],
        label: Float[Tensor, "b"],
        view: View = WHOLE,
        /,
        **cond: Int64[Tensor, "b"],
    ) -> Float[Tensor, "b o h w"]:
        """See `Transformer.forward`: same arguments, same result."""
        sides = tuple(x.shape[2:])
        if view.corner is None and sides != self.sides and not self.free:
            raise ValueError(f"built for states of {times(self.sides)}, got {times(sides)}")
        if self.drops and self.training:
            reseed(self.drops, label)
        x, cond = seen(x, cond, self.given, self.beside)
        if self.coordinates:
            where = self.where if view.corner is not None or sides == self.sides else self._around(sides)
            x = torch.cat([x, places(where.to(x), view.corner, x)], 1)
        x = padded(x, [side + -side % self.factor for side in sides])
        y = self.unet(x, label, class_labels=self.labels(cond, len(x)), return_dict=False)[0]
        return cropped(y, sides)


def replace_dropout(module: nn.Module, rate: float, made: list[Dropout]) -> None:
    """Put ours in the residual blocks; the attention layers' own rate is 0 and stays so."""
    for name, child in module.named_children():
        if isinstance(child, nn.Dropout):
            layer: nn.Module = nn.Identity()
            if rate > 0 and name == "dropout":
                layer = Dropout(rate)
                made.append(layer)
            setattr(module, name, layer)
        else:
            replace_dropout(child, rate, made)


@torch.no_grad()
def unet_weights(unet: nn.Module, generator: torch.Generator) -> None:
    """Fill a `UNet2DModel`: uniform, variance 2/(fan_in + fan_out); zero at the end of residual branches."""
    for name, layer in unet.named_modules():
        if isinstance(layer, nn.GroupNorm):
            layer.weight.fill_(1)
            layer.bias.zero_()
        elif isinstance(layer, nn.Embedding):
            layer.weight.normal_(0, 0.02, generator=generator)
        elif isinstance(layer, (nn.Linear, nn.Conv2d)):
            if name.endswith(("conv2", "to_out.0")) or name == "conv_out":
                layer.weight.zero_()
            else:
                fan_out, fan_in = layer.weight.shape[:2]
                limit = math.sqrt(6 / ((fan_in + fan_out) * layer.weight[0, 0].numel()))
                layer.weight.uniform_(-limit, limit, generator=generator)
            if layer.bias is not None:
                layer.bias.zero_()
        elif any(True for _ in layer.parameters(recurse=False)):
            raise ValueError(f"no initial weights are known for {name} ({type(layer).__name__})")
