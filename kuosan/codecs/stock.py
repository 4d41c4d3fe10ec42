"""Autoencoders of somebody else: `diffusers.AutoencoderKL` and `AutoencoderDC` under our calling convention.

A folder that `save_pretrained` wrote, from a disk: config.json and one safetensors file. Nothing is downloaded, no code
of the folder is run, no pickle is opened, and a class is taken by name from a list of two. diffusers writes

    z = (m − shift_factor) · scaling_factor,    or z = (m − latents_mean) / latents_std · scaling_factor       (1)

where its configuration says so, which is eq. (1) of `base`. An `AutoencoderDC` is deterministic: its posterior is a
point. The decoder's variance is in no configuration; `calibrate` measures it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from kuosan.codecs.base import Codec, Spec
from kuosan.errors import UserError

CLASSES = ("AutoencoderKL", "AutoencoderDC")
CONFIG, WEIGHTS = "config.json", "diffusion_pytorch_model.safetensors"


class StockCodec(Codec):
    """A diffusers autoencoder.

    Args:
        sides: height and width of the states.
        name: one of `CLASSES`.
        config: the arguments of that class, JSON values.
    """

    def __init__(self, sides: Sequence[int], *, name: str, config: Mapping[str, Any]) -> None:
        import diffusers

        if name not in CLASSES:
            raise ValueError(f"a stock codec is one of {', '.join(CLASSES)}, not {name!r}")
        with torch.device("meta"):
            vae: Any = getattr(diffusers, name)(**config)
        levels = (
            vae.config.block_out_channels if name == CLASSES[0] else vae.config.encoder_block_out_channels
        )
        super().__init__(
            vae.config.in_channels,
            sides,
            factor=2 ** (len(levels) - 1),
            latent=vae.config.latent_channels,
        )
        self.name, self.config = name, dict(config)
        self.vae = vae.to_empty(device="cpu").eval()
        mean, std = vae.config.get("latents_mean"), vae.config.get("latents_std")
        shift = mean or vae.config.get("shift_factor") or 0.0
        self.shift += torch.tensor(shift)
        self.scale *= torch.tensor(std or 1.0) / vae.config.scaling_factor

    def spec(self) -> Spec:
        return {
            "kind": "stock",
            "sides": list(self.sides),
            "name": self.name,
            "config": self.config,
        }

    def moments(self, x: Float[Tensor, "b C H W"]) -> tuple[Tensor, Tensor | None]:
        if self.name == "AutoencoderDC":
            return self.vae.encode(x, return_dict=False)[0], None
        q = self.vae.encode(x, return_dict=False)[0]
        return q.mean, q.logvar

    def picture(self, m: Float[Tensor, "b c h w"]) -> Float[Tensor, "b C H W"]:
        return self.vae.decode(m, return_dict=False)[0]

    def exported(self) -> Any:
        """An `AutoencoderKL` whose latents are ours, scaling_factor 1: eq. (1) of `base` is folded into the 1 × 1
        convolutions between it and the latents, which are added where it has none.

        Raises:
            UserError: an `AutoencoderDC`, whose latents no such convolution touches.
        """
        import diffusers

        if self.name != CLASSES[0]:
            raise UserError(
                f"diffusers' DiTPipeline decodes with an AutoencoderKL, and the codec of this model is an {self.name}: "
                "sample it here"
            )
        config = self.config | {"scaling_factor": 1.0, "use_quant_conv": True, "use_post_quant_conv": True}
        config |= {"shift_factor": None, "latents_mean": None, "latents_std": None}
        with torch.device("meta"):
            vae: Any = diffusers.AutoencoderKL(**config)
        one = torch.eye(self.latent).view(self.latent, self.latent, 1, 1)
        own = {name: value.detach().cpu().clone() for name, value in self.vae.state_dict().items()}
        out = (
            own.get("post_quant_conv.weight", one),
            own.get("post_quant_conv.bias", torch.zeros(self.latent)),
        )
        both = torch.eye(2 * self.latent).view(2 * self.latent, 2 * self.latent, 1, 1)
        into = own.get("quant_conv.weight", both), own.get("quant_conv.bias", torch.zeros(2 * self.latent))
        shift, scale = self.shift.cpu(), self.scale.cpu()
        own["post_quant_conv.weight"] = out[0] * scale.view(1, -1, 1, 1)
        own["post_quant_conv.bias"] = out[1] + out[0][..., 0, 0] @ shift
        gain = torch.cat([1 / scale, torch.ones(self.latent)])  # of means and log-variances
        own["quant_conv.weight"] = into[0] * gain.view(-1, 1, 1, 1)
        own["quant_conv.bias"] = into[1] * gain - torch.cat([shift / scale, 2 * scale.log()])
        vae.load_state_dict(own, assign=True)
        return vae.eval()


def read_stock(folder: str | Path, sides: Sequence[int]) -> StockCodec:
    """The autoencoder in a diffusers folder (of a pipeline, its part `vae`), for states of this height and width.

    Raises:
        UserError: what cannot be read, and why.
    """
    folder = Path(folder)
    folder = folder / "vae" if (folder / "vae" / CONFIG).is_file() else folder
    if not (folder / CONFIG).is_file():
        raise UserError(
            f"{folder} holds no {CONFIG}; give the folder of a diffusers autoencoder or pipeline on this machine"
        )
    if not (folder / WEIGHTS).is_file():
        raise UserError(
            f"{folder / WEIGHTS} is missing; other forms of weights are not opened, so save the autoencoder with "
            "save_pretrained(DIR, safe_serialization=True)"
        )
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        name = config.get("_class_name")
        if name not in CLASSES:
            raise UserError(f"{folder} holds a {name}; only {' and '.join(CLASSES)} can be used as a codec")
        given = {k: v for k, v in config.items() if not k.startswith("_")}
        codec = StockCodec(sides, name=name, config=given)
        codec.vae.load_state_dict(load_file(folder / WEIGHTS))
    except (OSError, ValueError, TypeError, AttributeError, RuntimeError, SafetensorError) as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(
            f"the autoencoder in {folder} cannot be loaded: {first}; save it again with a recent diffusers"
        ) from error
    return codec.requires_grad_(False)
