"""The one format that all pictures of a data set are brought to, and how it is chosen.

A network has one input shape, folders do not.  The choice keeps as much as it can: the richest mode and
depth that occur, and the native size where most pictures share one that is small enough.  Otherwise the size
follows the median aspect ratio with the longer side at most `max_side`, and no more than the median has, in
multiples of 4 (a network halves its input about twice).  Every choice is told as (what, value, why).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from kuosan.errors import UserError
from kuosan.modalities.base import Choice
from kuosan.modalities.pixels import CHANNELS, FULL, MULTI, Header, join_depths, join_modes

_STEP = 4


@dataclass(frozen=True)
class ImageFormat:
    """Shape, meaning and value range of a picture; `low` … `high` maps to [-1, 1]."""

    height: int
    width: int
    channels: int
    mode: str
    dtype: str
    low: float
    high: float

    @property
    def suffix(self) -> str:
        """PNG where PNG can hold it (8 and 16 bits of grey or colour, with alpha or without), else TIFF."""
        return ".png" if self.mode not in (MULTI, "CMYK") and self.dtype != "float32" else ".tif"

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"suffix": self.suffix}

    @classmethod
    def from_json(cls, facts: dict[str, Any]) -> ImageFormat:
        return cls(**{name: facts[name] for name in cls.__dataclass_fields__})


def full_range(mode: str, dtype: str) -> tuple[float, float]:
    """The range of a mode and depth where nothing is known about the data."""
    return (0.0, 1.0) if mode == "1" else (0.0, FULL[dtype])


def usable_channels(headers: Sequence[Header]) -> tuple[int, str] | None:
    """None where all modes can be joined; else the most common (channels, mode), the others do not fit."""
    kinds = {(header.channels, header.mode) for header in headers}
    if len(kinds) == 1 or all(mode != MULTI for _, mode in kinds):
        return None
    counts: Counter[tuple[int, str]] = Counter()
    for header in headers:
        counts[header.channels, header.mode] += header.count
    return max(sorted(counts), key=lambda kind: counts[kind])


def choose_format(
    headers: Sequence[Header], max_side: int, size: int | tuple[int, int] | None
) -> tuple[ImageFormat, list[Choice]]:
    """The common format of pictures whose modes can be joined, and why.

    `size` fixes it: a number is a square, a pair is (height, width).
    """
    height, width, choices = choose_size(headers, max_side, size)
    mode = join_modes(header.mode for header in headers)
    resized = any((header.height, header.width) != (height, width) for header in headers)
    if mode == "1" and resized:
        mode = "L"
        choices.append(("mode", "grey", "resized 1-bit pictures need levels between black and white"))
    modes = {header.mode for header in headers}
    if len(modes) > 1:
        found = ", ".join(sorted(modes))
        choices.append(("mode", mode, f"the pictures come in {found}; this holds all of them"))
    dtype = join_depths(header.dtype for header in headers)
    depths = sorted({header.dtype for header in headers})
    if len(depths) > 1:
        choices.append(("depth", dtype, f"the pictures come in {', '.join(depths)}; this holds all of them"))
    channels = CHANNELS.get(mode, headers[0].channels)
    low, high = full_range(mode, dtype)
    return ImageFormat(height, width, channels, mode, dtype, low, high), choices


def asked_size(size: int | tuple[int, ...], noun: str = "pictures") -> tuple[int, int]:
    """data.size as height and width.  Raises `UserError`."""
    sides = (size, size) if isinstance(size, int) else size
    if len(sides) != 2:
        raise UserError(
            f"data.size has {len(sides)} numbers, and {noun} have two sides: give height and width"
        )
    height, width = sides
    if min(height, width) < 1:
        raise UserError(f"A picture cannot be {height}×{width}; choose a size of at least 1×1.")
    return height, width


def choose_size(
    headers: Sequence[Header], max_side: int, size: int | tuple[int, ...] | None, noun: str = "pictures"
) -> tuple[int, int, list[Choice]]:
    """Height and width of what is called by its plural `noun`, and why."""
    if size is not None:
        height, width = asked_size(size, noun)
        return height, width, [("size", f"{height}×{width}", "asked for")]
    if max_side < 1:
        raise UserError(f"max_side is {max_side}; the longer side of a picture is at least 1.")
    sizes = {(header.height, header.width) for header in headers}
    if len(sizes) == 1:
        height, width = next(iter(sizes))
        if max(height, width) <= max_side:
            return height, width, [("size", f"{height}×{width}", f"the native size of all {noun}")]
    counts = np.array([header.count for header in headers])
    shares: Counter[tuple[int, int]] = Counter()
    for header in headers:
        shares[header.height, header.width] += header.count
    (height, width), most = shares.most_common(1)[0]
    if 2 * most > counts.sum() and max(height, width) <= max_side:
        why = f"the native size of {most:,} of {counts.sum():,} {noun}; the others are resized and cropped"
        return height, width, [("size", f"{height}×{width}", why)]
    heights = np.repeat([float(header.height) for header in headers], counts)
    widths = np.repeat([float(header.width) for header in headers], counts)
    aspect = float(np.exp(np.median(np.log(widths / heights))))
    longest = min(float(max_side), float(np.median(np.maximum(heights, widths))))
    wide, high = (longest, longest / aspect) if aspect >= 1 else (longest * aspect, longest)
    height, width = _rounded(high, max_side), _rounded(wide, max_side)
    several = f"{len(sizes)} sizes" if len(sizes) > 1 else "one size of {}×{}".format(*next(iter(sizes)))
    why = f"{several}; median aspect ratio {aspect:.2f}, longer side ≤ {max_side}, cropped at the centre"
    return height, width, [("size", f"{height}×{width}", why)]


def _rounded(side: float, max_side: int) -> int:
    """The nearest multiple of 4 that is at least 4 and no more than `max_side` allows."""
    most = max(max_side // _STEP * _STEP, min(max_side, _STEP))
    return int(min(max(_STEP, round(side / _STEP) * _STEP), most))
