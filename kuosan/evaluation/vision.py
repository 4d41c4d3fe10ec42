"""Networks of others that see, as a feature space: DINOv2, CLIP, SigLIP, ViT, ConvNeXt …, where the user has one.

The folder is read as `stock` says. A picture's row is what the model hands on of a whole picture: of CLIP and its like
the embedding that is compared with texts, of others the pooled output, or the first token where there is none.

Pictures are made ready as the folder says, by torch: the shorter side (or both) to `size`, bicubic or bilinear with
antialiasing, the middle cut to `crop_size`, mean and deviation of each channel taken out; grey ones are repeated.
Implementations of resizing differ in the last digits, so distances are to be compared with others of this code alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate

from kuosan.errors import UserError
from kuosan.evaluation.features import FeatureSpace
from kuosan.evaluation.stock import AWAY, PREPARED, SEES, name_of, pooled, stock_model

BILINEAR = 2  # as Pillow numbers it; whatever else stands there is taken as bicubic
USUAL = 224
BATCH = 16


class Vision(FeatureSpace):
    """The space of the model in ``folder``.

    Raises:
        UserError: `transformers` is not installed, or the folder holds no such model.
    """

    def __init__(self, folder: Path | str, device: torch.device | str = "cpu") -> None:
        self.folder, self.device = Path(folder), torch.device(device)
        model = stock_model(self.folder, SEES)
        try:
            self.prepared: Mapping[str, Any] = json.loads(
                (self.folder / PREPARED).read_text(encoding="utf-8")
            )
            self.mean = _channels(self.prepared, "image_mean", 0.0)
            self.std = _channels(self.prepared, "image_std", 1.0)
            self.size, self.crop = _size(self.prepared.get("size")), _size(self.prepared.get("crop_size"))
        except (OSError, ValueError, KeyError, AttributeError, TypeError, RuntimeError) as error:
            raise UserError(f"{PREPARED} in {self.folder} cannot be read ({error}): {AWAY}") from error
        self.model: Any = model.to(self.device)
        self.name = name_of(model)
        if not hasattr(model, "get_image_features") and model.main_input_name != "pixel_values":
            raise UserError(
                f"the model in {self.folder} ({self.name}) takes {model.main_input_name} and sees no pictures: {AWAY}"
            )

    @torch.no_grad()
    def __call__(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d"]:
        if x.shape[1] not in (1, 3):
            raise UserError(
                f"an encoder of pictures needs 1 or 3 channels, these have {x.shape[1]}: leave --encoder away"
            )
        return torch.cat([self._rows(self.ready(part)) for part in x.split(BATCH)])

    def ready(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n 3 h w"]:
        """Pictures in [-1, 1] as the model takes them."""
        x = (x.to(self.device, torch.float32).clamp(-1, 1).expand(-1, 3, -1, -1) + 1) / 2
        if self.prepared.get("do_resize", True):
            mode = "bilinear" if self.prepared.get("resample") == BILINEAR else "bicubic"
            sides = self.size
            if len(sides) == 1:  # of the shorter side
                scale = sides[0] / min(x.shape[2:])
                sides = (max(sides[0], int(x.shape[2] * scale)), max(sides[0], int(x.shape[3] * scale)))
            x = interpolate(x, sides, mode=mode, align_corners=False, antialias=True).clamp(0, 1)
        if self.prepared.get("do_center_crop", "crop_size" in self.prepared):
            height, width = self.crop * (2 // len(self.crop))
            top, left = (x.shape[2] - height) // 2, (x.shape[3] - width) // 2
            x = x[:, :, max(0, top) : max(0, top) + height, max(0, left) : max(0, left) + width]
        if self.prepared.get("do_normalize", True):
            x = (x - self.mean.to(x)) / self.std.to(x)
        return x

    def _rows(self, pixels: Tensor) -> Float[Tensor, "n d"]:
        if hasattr(self.model, "get_image_features"):
            found = self.model.get_image_features(pixel_values=pixels)
        else:
            found = self.model(pixel_values=pixels)
        row = pooled(found)
        row = found.last_hidden_state[:, 0] if row is None else row
        return row.flatten(1).float().cpu()

    def describe(self) -> dict[str, Any]:
        side = "×".join(map(str, self.crop if self.prepared.get("do_center_crop") else self.size))
        what = f"{type(self.model).__name__} in {self.folder.name}, pictures made ready to {side} as its folder says"
        return {"name": self.name, "what": what, "folder": self.folder.name}


def _size(given: Any) -> tuple[int, ...]:
    """(height, width), or the shorter side alone, in any of the ways in which such files say it."""
    if isinstance(given, Mapping):
        if "shortest_edge" in given:
            return (int(given["shortest_edge"]),)
        return int(given["height"]), int(given["width"])
    side = USUAL if given is None else int(given)
    return side, side


def _channels(prepared: Mapping[str, Any], name: str, default: float) -> Float[Tensor, "3 1 1"]:
    values = prepared.get(name, [default] * 3)
    return torch.tensor([float(v) for v in values]).expand(3)[:, None, None]
