"""Bringing a picture to a common size: resized to cover it, and cropped at the centre.

One resampling step with Pillow's Lanczos filter, whose support grows with the reduction (so it is
antialiased; Duchon 1979).  8-bit pictures are resampled as such, deeper ones channel by channel in float32.
Colours are weighted by alpha first: the hidden colour of transparent pixels must not bleed into edges.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from kuosan.modalities.pixels import FULL, Pixels, has_alpha, quantise

Number = TypeVar("Number", bound=np.generic)
_DIRECT = ("L", "LA", "RGB", "RGBA", "CMYK")


def cover(pixels: Pixels, mode: str, height: int, width: int) -> Pixels:
    """Pixels (h, w, c) as (height, width, c); unchanged where the size fits already."""
    h, w = pixels.shape[:2]
    if (h, w) == (height, width):
        return pixels
    box = crop_box(h, w, height, width)
    if pixels.dtype == np.uint8 and mode in _DIRECT:
        image = Image.fromarray(pixels[..., 0] if mode == "L" else np.ascontiguousarray(pixels), mode)
        out = np.asarray(image.resize((width, height), Image.Resampling.LANCZOS, box=box, reducing_gap=3.0))
        return out[..., None] if out.ndim == 2 else out
    dtype = "uint8" if mode == "1" else str(pixels.dtype)
    full = 1.0 if mode == "1" else FULL[dtype]
    values = pixels.astype(np.float32)
    low, high = values.min(axis=(0, 1)), values.max(axis=(0, 1))
    if has_alpha(mode):
        values[..., :-1] *= values[..., -1:] / full
    planes = [
        _resample(np.ascontiguousarray(plane), width, height, box) for plane in np.moveaxis(values, -1, 0)
    ]
    out = np.stack(planes, -1).astype(np.float64)
    if has_alpha(mode):
        alpha = out[..., -1:] / full
        out[..., :-1] = np.divide(out[..., :-1], alpha, out=np.zeros_like(out[..., :-1]), where=alpha > 0)
    # Lanczos overshoots at edges; no value that the picture did not reach is invented
    return quantise(np.clip(out, low, high), dtype)


def nearest(values: NDArray[Number], height: int, width: int) -> NDArray[Number]:
    """What `cover` takes of (h, w, c), each place with the value that is nearest to it: for labels."""
    h, w = values.shape[:2]
    left, top, right, bottom = crop_box(h, w, height, width)
    rows = (top + (np.arange(height) + 0.5) * ((bottom - top) / height)).astype(int).clip(0, h - 1)
    columns = (left + (np.arange(width) + 0.5) * ((right - left) / width)).astype(int).clip(0, w - 1)
    return values[rows[:, None], columns]


def crop_box(h: int, w: int, height: int, width: int) -> tuple[float, float, float, float]:
    """The largest centred part (left, top, right, bottom) of h×w with the aspect of height×width."""
    scale = min(h / height, w / width)
    part_h, part_w = height * scale, width * scale
    top, left = max(0.0, (h - part_h) / 2), max(0.0, (w - part_w) / 2)
    return left, top, min(left + part_w, float(w)), min(top + part_h, float(h))


def _resample(plane: Pixels, width: int, height: int, box: tuple[float, float, float, float]) -> Pixels:
    image = Image.fromarray(plane, "F")
    return np.asarray(image.resize((width, height), Image.Resampling.LANCZOS, box=box))
