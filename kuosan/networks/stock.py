"""A U-Net of somebody else: `diffusers.UNet2DModel` of any configuration, under our calling convention.

Such a network counts T noise levels, not always 1000, and may predict a variance beside the mean (Nichol &
Dhariwal 2021: twice the channels, the first half is the mean). Its configuration is plain JSON and stands
in the specification, so that a run that started from such a network is rebuilt without the folder that it
came from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from kuosan.networks.attention import widen
from kuosan.networks.dropout import Dropout, reseed
from kuosan.networks.given import channels_in, seen
from kuosan.networks.unet import replace_dropout, unet_weights
from kuosan.networks.view import WHOLE, View


class StockUNet(nn.Module):
    """`diffusers.UNet2DModel(**config)`.

    Args:
        channels, sides: of the images.
        config: arguments of `UNet2DModel`.
        levels: number of noise levels T of its schedule; our label 1000·t − 1 becomes its index T·t − 1.
        given: it is told of given parts, in as many channels more than it had: see `networks.given`.
        beside: channels that stand beside the state: see there.
        dropout: rate in the residual blocks, in training mode.
        generator: source of the initial weights.
    """

    def __init__(
        self,
        channels: int,
        sides: Sequence[int],
        *,
        config: Mapping[str, Any],
        levels: int = 1000,
        given: bool = False,
        beside: int = 0,
        dropout: float = 0.0,
        generator: torch.Generator,
    ) -> None:
        from diffusers import UNet2DModel

        super().__init__()
        self.channels, self.sides, self.levels = channels, tuple(sides), levels
        self.given, self.beside = given, beside
        config = {**config, "in_channels": channels_in(channels, given, beside)}
        with torch.device("meta"):
            unet: Any = UNet2DModel(**config)
        self.unet = unet.to_empty(device="cpu")
        widen(self.unet)
        self.drops: list[Dropout] = []
        replace_dropout(self.unet, dropout, self.drops)
        unet_weights(self.unet, generator)

    def forward(
        self, x: Float[Tensor, "b c h w"], label: Float[Tensor, "b"], view: View = WHOLE, /, **cond: Tensor
    ) -> Float[Tensor, "b c h w"]:
        """See `Transformer.forward`: same arguments but for conditions other than given parts, same result. It is never
        shown crops."""
        x, cond = seen(x, cond, self.given, self.beside)
        if cond:
            raise ValueError(f"unknown condition {sorted(cond)}; this network has none")
        if self.drops and self.training:
            reseed(self.drops, label)
        if self.levels != 1000:
            label = (label + 1) * (self.levels / 1000) - 1
        return self.unet(x, label, return_dict=False)[0][:, : self.channels]
