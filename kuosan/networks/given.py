"""What a network is told of places: which entries of a state are known already, and what stands beside it.

    seen = [ where(mask, known, x),  mask,  beside ]                                              (1)

A given entry needs no denoising, and its noise says nothing of the others (given the data it is independent of them),
so the network sees it clean, in its place, and the mask tells it so. With nothing given the mask is 0, and the network
is one that was never told of parts. (Voleti et al. 2022, MCVD, and Saharia et al. 2022, Palette, condition in this way
on frames and on regions.)

What stands beside a state is known of each of its places and is no part of it: a map of what is where, the same
picture at a lower resolution (Saharia et al. 2021, SR3). It has channels of its own; where nothing is known they are 0.

Both come in beside the conditions, under names that no column of a table bears. A network that was not told of either
learns to be from where it stands: the weights of the new channels begin at 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from kuosan.core.shapes import BESIDE, GIVEN

FIRST = {
    "transformer": "embed.weight", "unet": "unet.conv_in.weight", "stock": "unet.conv_in.weight",
    "residual-unet": "first.weight",
}  # fmt: skip
"""By kind of network: the weights that what comes in meets, channels along their second axis."""
AGAIN = "detailer.first.weight"  # what comes in meets these too, where a transformer has them


def told(
    known: Float[Tensor, "b c *sides"], mask: Bool[Tensor, "b c *sides"]
) -> Float[Tensor, "b 2c *sides"]:
    """The condition `GIVEN`: the mask, and what is known where it is true."""
    return torch.cat([mask.to(known), known * mask], 1)


def channels_in(channels: int, given: bool, beside: int, waves: int = 0) -> int:
    """How many channels come in by eq. 1, with so many octaves of waves of the first of them behind."""
    return (2 if given else 1) * channels + beside + 2 * waves * channels


def seen(
    x: Float[Tensor, "b c *sides"], cond: Mapping[str, Tensor], given: bool = True, beside: int = 0
) -> tuple[Float[Tensor, "b k *sides"], dict[str, Tensor]]:
    """Eq. 1, and the other conditions; where nothing is given a mask of 0, and 0 where nothing stands beside."""
    if not (given or beside):
        return x, dict(cond)
    rest, parts = dict(cond), [x]
    here, there = rest.pop(GIVEN, None) if given else None, rest.pop(BESIDE, None) if beside else None
    if here is not None:
        mask, known = here.to(x).chunk(2, dim=1)
        parts = [torch.where(mask > 0, known, x), mask]
    elif given:
        parts.append(torch.zeros_like(x))
    if there is not None:
        parts.append(there.to(x))
    elif beside:
        parts.append(x.new_zeros(len(x), beside, *x.shape[2:]))
    return torch.cat(parts, 1), rest


def made_to_see(
    weights: Mapping[str, Tensor], network: Mapping[str, Any], prefix: str = ""
) -> dict[str, Tensor]:
    """The weights of a network of this specification for the same one with given parts, which says the same without."""
    return _wider(weights, network, int(network["channels"]), int(network["channels"]), prefix)


def made_to_look(
    weights: Mapping[str, Tensor], network: Mapping[str, Any], beside: int, prefix: str = ""
) -> dict[str, Tensor]:
    """The same for one beside whose states stand so many channels."""
    at = channels_in(int(network["channels"]), bool(network.get("given")), 0)
    return _wider(weights, network, at, beside, prefix)


def blind(weights: Mapping[str, Tensor], network: Mapping[str, Any], prefix: str = "") -> dict[str, Tensor]:
    """The weights of the same network without given parts, which answers as this one does where there are none; undoes
    `made_to_see`."""
    name, channels = prefix + FIRST[network["kind"]], int(network["channels"])
    first = weights[name]
    channels *= _values(first, {**network, "given": True}) if network["kind"] == "transformer" else 1
    return {**weights, name: torch.cat([first[:, :channels], first[:, 2 * channels :]], 1)}


def _wider(
    weights: Mapping[str, Tensor], network: Mapping[str, Any], at: int, more: int, prefix: str
) -> dict[str, Tensor]:
    """With so many channels more behind the first ``at``, whose weights are 0."""
    wider, meets = dict(weights), {FIRST[network["kind"]]: 1, AGAIN: 1}
    if network["kind"] == "transformer":  # all values of a patch, channel by channel
        meets["embed.weight"] = _values(weights[prefix + "embed.weight"], network)
    for name, values in meets.items():
        if (first := weights.get(prefix + name)) is not None:
            blank = first.new_zeros(len(first), more * values, *first.shape[2:])
            wider[prefix + name] = torch.cat([first[:, : at * values], blank, first[:, at * values :]], 1)
    return wider


def _values(embed: Tensor, network: Mapping[str, Any]) -> int:
    """How many values of each channel a transformer's token is made of."""
    told = bool(network.get("given")), network.get("beside", 0), network.get("waves", 0)
    return embed.shape[1] // channels_in(int(network["channels"]), *told)
