"""Many pictures on one sheet, to be looked at.

8-bit sRGB whatever comes in: deeper pictures are scaled, transparency is laid over a light checkerboard, CMYK
becomes RGB, two channels without meaning stand side by side and of more the first three are shown.  Small
pictures are enlarged by whole factors without smoothing, so that every pixel can be seen.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from kuosan.modalities.pixels import FULL, MULTI, Picture, has_alpha, mode_of

_GAP, _CHECK = 2, 8
_PAPER = 255
_LIGHT, _DARK = 248.0, 222.0
_LEGIBLE = 96  # pixels of the longer side that a small picture is enlarged to


def grid_picture(
    pictures: Sequence[Picture] | Tensor,
    columns: int | None = None,
    scale: int | None = None,
    *,
    low: float | None = None,
    high: float | None = None,
) -> Image.Image:
    """A sheet of pictures, or of states (b, c, h, w) in [-1, 1] (1 grey, 3 RGB, 4 RGBA, else bands).

    `columns` defaults to a sheet about as wide as high, `scale` to the whole factor that makes small pictures
    legible; `low` … `high` are shown as black … white (by default the full depth).
    """
    if isinstance(pictures, Tensor):
        pictures, low, high = _from_states(pictures), -1.0, 1.0
    if not pictures:
        return Image.new("RGB", (1, 1), (_PAPER,) * 3)
    largest = max(max(picture.pixels.shape[:2]) for picture in pictures)
    scale = scale or min(max(1, _LEGIBLE // largest), max(1, 1600 // (largest * math.isqrt(len(pictures)))))
    tiles = [_tile(picture, scale, low, high) for picture in pictures]
    columns = min(columns or math.ceil(math.sqrt(len(tiles))), len(tiles))
    height, width = max(t.shape[0] for t in tiles), max(t.shape[1] for t in tiles)
    rows = math.ceil(len(tiles) / columns)
    shape = (rows * (height + _GAP) + _GAP, columns * (width + _GAP) + _GAP, 3)
    sheet = np.full(shape, _PAPER, np.uint8)
    for index, tile in enumerate(tiles):
        top = _GAP + index // columns * (height + _GAP)
        left = _GAP + index % columns * (width + _GAP)
        sheet[top : top + tile.shape[0], left : left + tile.shape[1]] = tile
    return Image.fromarray(sheet)


def as_rgb(
    picture: Picture, scale: int = 1, low: float | None = None, high: float | None = None
) -> Image.Image:
    """One picture as 8-bit RGB, enlarged by a whole factor."""
    return Image.fromarray(_tile(picture, scale, low, high))


def _from_states(x: Tensor) -> list[Picture]:
    values = np.moveaxis(x.detach().to("cpu").float().clamp(-1, 1).numpy(), 1, -1)
    mode = "LA" if values.shape[-1] == 2 else mode_of(values.shape[-1])
    mode = MULTI if mode == "LA" else mode
    return [Picture(np.ascontiguousarray(one), mode) for one in values]


def _tile(picture: Picture, scale: int, low: float | None, high: float | None) -> NDArray[np.uint8]:
    mode, pixels = picture.mode, picture.pixels.astype(np.float64)
    full = 1.0 if mode == "1" else FULL[str(picture.pixels.dtype)]
    bottom, top = 0.0 if low is None else low, full if high is None else high
    unit = np.clip((pixels - bottom) / (top - bottom), 0, 1)
    unit = unit.repeat(scale, 0).repeat(scale, 1)
    alpha = None
    if has_alpha(mode):
        unit, alpha = unit[..., :-1], unit[..., -1:]
    elif mode == "CMYK":
        unit = (1 - unit[..., :3]) * (1 - unit[..., 3:])
    elif mode == MULTI and unit.shape[2] == 2:
        unit = np.concatenate([unit[..., :1], unit[..., 1:]], 1)
    elif unit.shape[2] > 3:
        unit = unit[..., :3]
    rgb = np.broadcast_to(unit, (*unit.shape[:2], 3)) * 255
    if alpha is not None:
        rgb = rgb * alpha + _checkerboard(*rgb.shape[:2]) * (1 - alpha)
    return np.rint(rgb).astype(np.uint8)


def _checkerboard(height: int, width: int) -> NDArray[np.float64]:
    row, column = np.indices((height, width)) // _CHECK
    return np.where((row + column) % 2 == 0, _LIGHT, _DARK)[..., None]
