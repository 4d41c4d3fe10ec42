"""What arrays a file holds, from their headers alone: nothing is decoded to tell clips from pictures."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from kuosan.modalities.base import Unreadable

CLIP_WORDS = ("clips", "clip", "videos", "video", "frames")  # names of arrays of clips


def shapes(path: Path) -> Iterator[tuple[str, tuple[int, ...], np.dtype[Any]]]:
    """Name, shape and type of every array in a .npy or .npz file.  Raises `Unreadable`."""
    try:
        if path.suffix.lower() == ".npy":
            with path.open("rb") as file:
                yield path.stem, *_header(file)
            return
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                with archive.open(name) as part:
                    yield name.removesuffix(".npy"), *_header(part)
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error, SyntaxError) as error:
        raise Unreadable(f"the file is damaged ({error})", path) from None


def holds_clips(path: Path) -> bool:
    """Whether a file of arrays can be nothing but clips: called so, with four axes or more, or bytes with five axes or
    more of which the last has 1, 3 or 4 places."""
    try:
        return any(
            (name.lower() in CLIP_WORDS and len(shape) >= 4)
            or (len(shape) >= 5 and dtype == np.uint8 and shape[-1] in (1, 3, 4))
            for name, shape, dtype in shapes(path)
        )
    except Unreadable:
        return False  # named when it is read


def _header(file: Any) -> tuple[tuple[int, ...], np.dtype[Any]]:
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(file)
    return shape, dtype
