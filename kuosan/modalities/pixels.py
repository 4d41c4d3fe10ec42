"""Pixels as numbers: modes, depths, and the conversions between them.

A picture is an array (h, w, c) with a mode that says what its channels mean.  Depths are uint8, uint16 and
float32; a full depth is 255, 65535 and 1.  Moving up is exact (v → 257·v from 8 to 16 bits; grey → equal red,
green and blue; no alpha → full alpha), so pictures of several kinds can be brought to the richest of them
without loss.  Moving down happens only when data must fit a format that is already fixed; then colours become
luma (ITU-R BT.601), transparency is laid over white and depths are rounded.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kuosan.modalities.base import Unreadable

Pixels = NDArray[np.generic]  # (h, w, c) or (n, h, w, c)

CHANNELS = {"1": 1, "L": 1, "LA": 2, "RGB": 3, "RGBA": 4, "CMYK": 4}
MULTI = "multi"  # channels without a common meaning: bands of a satellite, layers of a microscope
FULL = {"uint8": 255.0, "uint16": 65535.0, "float32": 1.0}
DEPTHS = ("uint8", "uint16", "float32")
_LUMA = np.array([0.299, 0.587, 0.114])


@dataclass(frozen=True, eq=False)
class Picture:
    """One picture: `pixels` (h, w, c) in uint8, uint16 or float32 (0/1 in mode "1"), and its `mode`."""

    pixels: Pixels
    mode: str

    def same(self, other: Picture) -> bool:
        """True where mode, depth, size and every value are equal."""
        return (
            self.mode == other.mode
            and self.pixels.dtype == other.pixels.dtype
            and np.array_equal(self.pixels, other.pixels)
        )


@dataclass(frozen=True)
class Header:
    """What a file says about its picture before it is decoded; `count` pictures share it."""

    height: int
    width: int
    channels: int
    mode: str
    dtype: str
    count: int = 1


def mode_of(channels: int) -> str:
    """The meaning of channels that came without one (an array): 1 grey, 3 RGB, 4 RGBA, else "multi"."""
    return {1: "L", 3: "RGB", 4: "RGBA"}.get(channels, MULTI)


def has_alpha(mode: str) -> bool:
    return mode in ("LA", "RGBA")


def join_modes(modes: Iterable[str]) -> str:
    """The poorest mode that holds all of `modes`; several channel counts without meaning have none."""
    found = set(modes)
    if len(found) == 1:
        return next(iter(found))
    if MULTI in found:
        raise ValueError("channels without a meaning cannot be joined with others")
    alpha = any(has_alpha(mode) for mode in found)
    if found & {"RGB", "RGBA", "CMYK"}:
        return "RGBA" if alpha else "RGB"
    return "LA" if alpha else "L"


def join_depths(dtypes: Iterable[str]) -> str:
    """The deepest of the depths."""
    return max(dtypes, key=DEPTHS.index)


def plain(array: Pixels, whole: bool = False) -> tuple[Pixels, bool]:
    """Any numeric array in one of the three depths, and whether it is 1-bit.

    `whole` is true for an array that holds a complete set: then wide integers may take the narrowest depth
    that holds all of them exactly.  Files are looked at one by one, so theirs become float32 with values
    unchanged (exact to 2^24).  Raises `Unreadable` for complex, text or object arrays.
    """
    kind = array.dtype.kind
    if kind == "b":
        return array.astype(np.uint8), True
    if array.dtype in (np.uint8, np.uint16):
        return np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("=")), False
    if kind in "iu" and whole and array.size and array.min() >= 0 and array.max() <= 65535:
        return array.astype(np.uint8 if array.max() <= 255 else np.uint16), False
    if kind in "iuf":
        return array.astype(np.float32), False
    raise Unreadable(f"it holds values of type {array.dtype}, which are no pixels")


def convert(pixels: Pixels, mode: str, to_mode: str, to_dtype: str) -> Pixels:
    """Pixels (…, h, w, c) in another mode and depth.  Raises `Unreadable` where the channels do not map."""
    channels = pixels.shape[-1]
    if mode == to_mode and pixels.dtype == to_dtype:
        return pixels
    if mode != to_mode and (MULTI in (mode, to_mode) or to_mode == "CMYK"):
        raise Unreadable(f"its {channels} channels ({mode}) do not map to {to_mode}")
    if mode == "1" and to_mode != "1":
        pixels = np.multiply(pixels.astype(np.uint8), np.uint8(255))
    pixels = _convert_depth(pixels, to_dtype)
    if mode == to_mode or (mode, to_mode) == ("1", "L"):
        return pixels
    full = FULL[to_dtype]
    values = pixels.astype(np.float64)
    if mode == "CMYK":
        values = full * (1 - values[..., :3] / full) * (1 - values[..., 3:] / full)
    alpha = values[..., -1:] / full if has_alpha(mode) else np.ones_like(values[..., :1])
    colour = values[..., :-1] if has_alpha(mode) else values
    if has_alpha(mode) and not has_alpha(to_mode):
        colour = colour * alpha + full * (1 - alpha)
    if to_mode in ("RGB", "RGBA"):
        colour = np.broadcast_to(colour, (*colour.shape[:-1], 3)) if colour.shape[-1] == 1 else colour
    elif colour.shape[-1] == 3:
        colour = (colour @ _LUMA)[..., None]
    if to_mode == "1":
        return (colour >= full / 2).astype(np.uint8)
    out = np.concatenate([colour, alpha * full], -1) if has_alpha(to_mode) else colour
    return quantise(out, to_dtype)


def quantise(values: NDArray[np.float64], dtype: str) -> Pixels:
    """Real values in a depth: rounded and clipped for integers, as they are for float32."""
    if dtype == "float32":
        return values.astype(np.float32)
    return np.clip(np.rint(values), 0, FULL[dtype]).astype(dtype)


def upright(pixels: Pixels, orientation: int) -> Pixels:
    """Applies an EXIF orientation (1 to 8; Exif 2.32, table 6) to pixels (h, w, c)."""
    if orientation in (2, 4, 5, 7):
        pixels = pixels[:, ::-1] if orientation in (2, 5, 7) else pixels[::-1]
    turns = {3: 2, 5: 1, 6: 3, 7: 3, 8: 1}.get(orientation, 0)
    return np.ascontiguousarray(np.rot90(pixels, turns))


def _convert_depth(pixels: Pixels, to_dtype: str) -> Pixels:
    dtype = str(pixels.dtype)
    if dtype == to_dtype:
        return pixels
    if (dtype, to_dtype) == ("uint8", "uint16"):
        return pixels.astype(np.uint16) * np.uint16(257)
    return quantise(pixels.astype(np.float64) * (FULL[to_dtype] / FULL[dtype]), to_dtype)
