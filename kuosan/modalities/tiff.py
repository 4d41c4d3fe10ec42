"""TIFF, which can hold anything: what its first page says, and reading and writing what Pillow cannot.

The meaning of the channels is in two tags: PhotometricInterpretation and ExtraSamples (TIFF 6.0, section 8
and section 18).  Channels that these do not explain are kept in mode "multi".
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np

from kuosan.modalities.base import Unreadable
from kuosan.modalities.pixels import CHANNELS, MULTI, Header, Picture, has_alpha, plain, upright

_MINISWHITE, _MINISBLACK, _RGB, _PALETTE, _SEPARATED, _YCBCR, _CIELAB = 0, 1, 2, 3, 5, 6, 8
_ORIENTATION = 274

logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # it reports to the log what it also raises


def peek(path: Path) -> Header:
    """The header of the first page."""
    import tifffile

    with tifffile.TiffFile(path) as file:
        page = _first(file)
        _check(page, path)
        mode = _mode(page)
        height, width = page.imagelength, page.imagewidth
        if _orientation(page) >= 5:
            height, width = width, height
        channels = CHANNELS.get(mode, page.samplesperpixel)
        return Header(height, width, channels, mode, _depth(page))


def suits_pillow(path: Path) -> bool:
    """True for the plain 8-bit kinds, whose many colour spaces and compressions Pillow knows best."""
    import tifffile

    with tifffile.TiffFile(path) as file:
        page = _first(file)
        return _mode(page) != MULTI and page.bitspersample <= 8 and _depth(page) == "uint8"


def read(path: Path, header: Header) -> Picture:
    """The first page by tifffile, in its own depth."""
    import tifffile

    with tifffile.TiffFile(path) as file:
        page = _first(file)
        array = page.asarray()
        if page.axes.startswith("S"):
            array = np.moveaxis(array, 0, -1)
        array = array[..., None] if array.ndim == 2 else array
        if array.ndim != 3:
            raise Unreadable(
                f"its first page has {array.ndim} axes ({page.axes}), a picture has height and width"
            )
        if page.photometric == _MINISWHITE and array.dtype.kind == "u":
            array = np.iinfo(array.dtype).max - array
        pixels, _ = plain(array)
        if pixels.shape[2] != header.channels:
            raise Unreadable(f"it says {header.channels} channels and holds {pixels.shape[2]}")
        return Picture(upright(pixels, _orientation(page)), header.mode)


def write(picture: Picture, path: Path) -> None:
    """Writes any picture, compressed without loss; `read` gives back the same."""
    import tifffile

    mode, pixels = picture.mode, picture.pixels
    photometric = {"RGB": "rgb", "RGBA": "rgb", "CMYK": "separated"}.get(mode, "minisblack")
    extra = ["unassalpha"] if has_alpha(mode) else None
    if mode == MULTI:
        extra = ["unspecified"] * (pixels.shape[2] - 1)
    squeeze = pixels.shape[2] == 1
    if mode == "1":
        pixels = pixels.astype(bool)  # written with one bit for each pixel
    tifffile.imwrite(
        path,
        pixels[..., 0] if squeeze else pixels,
        photometric=photometric,
        planarconfig=None if squeeze else "contig",
        extrasamples=extra,
        compression="zlib",
        metadata=None,
    )


def _first(file: Any) -> Any:
    return file.pages[0]


def _mode(page: Any) -> str:
    samples, photometric = page.samplesperpixel, int(page.photometric)
    extra = tuple(int(kind) for kind in page.extrasamples)
    alpha = extra in ((1,), (2,))  # associated, unassociated
    if photometric in (_MINISWHITE, _MINISBLACK):
        if samples == 1:
            return "1" if page.bitspersample == 1 else "L"
        return "LA" if samples == 2 and alpha else MULTI
    if photometric == _PALETTE and samples == 1:
        return "RGB"
    if photometric in (_RGB, _YCBCR, _CIELAB):
        if samples == 3:
            return "RGB"
        return "RGBA" if samples == 4 and alpha else MULTI
    return "CMYK" if photometric == _SEPARATED and samples == 4 else MULTI


def _depth(page: Any) -> str:
    dtype = page.dtype
    if int(page.photometric) == _PALETTE or dtype.kind == "b":
        return "uint8"
    return str(dtype) if dtype in (np.uint8, np.uint16) else "float32"


def _orientation(page: Any) -> int:
    tag = page.tags.get(_ORIENTATION)
    return int(tag.value) if tag is not None else 1


def _check(page: Any, path: Path) -> None:
    if page.dtype is None:
        raise Unreadable(f"its pixels have a type of {page.bitspersample} bits that no reader knows")
    size = path.stat().st_size
    # a missing end would be read as zeros: a black band that nobody drew
    if any(start + count > size for start, count in zip(page.dataoffsets, page.databytecounts, strict=True)):
        raise Unreadable("the file ends too early (truncated)")
