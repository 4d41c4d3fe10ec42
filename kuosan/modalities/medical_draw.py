"""Scans as a person looks at them: within a window, MONOCHROME1 with large values dark.

Of volumes the three planes through the middle stand beside each other: from below, from the front, from the side; where
voxels are much longer along one side, they are drawn so many times.
"""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from kuosan.modalities.grid import grid_picture
from kuosan.modalities.medical_scan import Scan, Values
from kuosan.modalities.pixels import Picture

FRAME = 90  # milliseconds of a slice


def shades(values: Values, window: tuple[float, float], inverted: bool) -> NDArray[np.uint8]:
    """Grey, 0 to 255, of values: black up to the window's first end and white from its second (or the reverse)."""
    low, high = window
    unit = np.clip((np.nan_to_num(values, nan=low).astype(np.float64) - low) / (high - low), 0, 1)
    return np.rint(255 * (1 - unit if inverted else unit)).astype(np.uint8)


def planes(values: Values, spacing: Sequence[float] | None = None) -> Values:
    """A picture of a slice, or of a volume's middle planes, whose voxels are of this size."""
    if values.ndim == 2:
        return values
    z, y, x = (n // 2 for n in values.shape)
    d, h, w = (1, 1, 1) if spacing is None else (max(1, round(s / min(spacing))) for s in spacing)
    sides = ((values[z], h, w), (values[::-1, y], d, w), (values[::-1, :, x], d, h))
    parts = [part.repeat(rows, 0).repeat(columns, 1) for part, rows, columns in sides]
    height, low = max(part.shape[0] for part in parts), float(np.nanmin(values))
    out = []
    for part in parts:
        more = height - part.shape[0]
        out.append(np.pad(part, ((more // 2, more - more // 2), (0, 0)), constant_values=low))
    return np.hstack(out)


def picture(scan: Scan, window: tuple[float, float]) -> Picture:
    return Picture(shades(planes(scan.values, scan.spacing), window, scan.inverted)[..., None], "L")


def sheet(
    scans: Sequence[Scan], window: tuple[float, float], columns: int | None, scale: int | None
) -> Image.Image:
    """All on one sheet."""
    return grid_picture([picture(scan, window) for scan in scans], columns, scale)


def flight(scan: Scan, window: tuple[float, float]) -> bytes:
    """A volume from below to above, slice by slice, as an animated WebP."""
    times = max(1, 128 // max(scan.values.shape[1:]))
    frames = [
        Image.fromarray(shades(v, window, scan.inverted).repeat(times, 0).repeat(times, 1))
        for v in scan.values
    ]
    out = io.BytesIO()
    frames[0].save(out, "WEBP", save_all=True, append_images=frames[1:], duration=FRAME, loop=0, quality=70)
    return out.getvalue()
