"""One picture from one file, in exactly the depth and the channels that it was stored in.

Pillow decodes nearly everything, but turns 16-bit colour into 8 bits without a word, and does not know TIFFs
of many bands or of floating point: those go to imagecodecs (PNG) and tifffile (TIFF).  Pictures come upright
(EXIF orientation applied), palettes as the colours they stand for, animations as their first frame.

A very large JPEG is decoded at a half, a quarter or an eighth of its size where that is enough (`least`): the decoder
itself leaves out what is finer, so that a panorama takes no more memory than what it is brought to.

Everything that a damaged or hostile file can do ends in one named error, `Unreadable`, with a plain reason.
"""

from __future__ import annotations

import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.JpegImagePlugin import JpegImageFile

from kuosan.modalities import tiff
from kuosan.modalities.base import Unreadable
from kuosan.modalities.pixels import CHANNELS, Header, Picture, Pixels, upright

MAX_PIXELS = 89_478_485  # Pillow's own limit before it warns of a decompression bomb: 1 GiB / 4 / 3
LARGE, MOST_DRAFTED = 2**24, 2**30  # pixels of a JPEG from which it is decoded smaller, and that it may claim
GAP = 3  # times the size that is needed: the rest of the way is resampled
_ORIENTATION = 0x0112
_JPEG_MAGIC = b"\xff\xd8\xff"
_PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
_TIFF_MAGICS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def peek(path: Path) -> Header:
    """Size, mode and depth without decoding the pixels.  Raises `Unreadable`."""
    with named_errors(path):
        start = _start(path)
        if start.startswith(_TIFF_MAGICS):
            return _checked(tiff.peek(path), MAX_PIXELS)
        with _opened(path, start) as image:
            width, height = image.size
            if _orientation(image) >= 5:
                width, height = height, width
            mode, dtype = _mode(image, start)
            return _checked(Header(height, width, CHANNELS[mode], mode, dtype), _most(image))


def read_picture(path: Path, least: tuple[int, int] | None = None) -> Picture:
    """The decoded picture; of a very large JPEG a smaller one, of at least `GAP` times the height and width ``least``
    where it has as much.  Raises `Unreadable`."""
    with named_errors(path):
        start = _start(path)
        if start.startswith(_TIFF_MAGICS):
            header = _checked(tiff.peek(path), MAX_PIXELS)
            if not tiff.suits_pillow(path):
                return tiff.read(path, header)
        with _opened(path, start) as image:
            if least and _most(image) > MAX_PIXELS and image.width * image.height > LARGE:
                height, width = reversed(least) if _orientation(image) >= 5 else least
                image.draft(image.mode, (GAP * width, GAP * height))
            _checked(Header(image.height, image.width, 1, "L", "uint8"), MAX_PIXELS)
            if _is_deep_png(start):
                return _read_deep_png(path, _orientation(image))
            mode, dtype = _mode(image, start)
            image.load()
            return Picture(_pixels(ImageOps.exif_transpose(image), mode, dtype), mode)


def _opened(path: Path, start: bytes) -> Image.Image:
    """A file without its pixels: Pillow's own limit is for those that it could only decode whole."""
    return JpegImageFile(path) if start.startswith(_JPEG_MAGIC) else Image.open(path)


def _most(image: Image.Image) -> int:
    """How many pixels it may claim."""
    return MOST_DRAFTED if image.format == "JPEG" else MAX_PIXELS


def _mode(image: Image.Image, start: bytes) -> tuple[str, str]:
    """The mode and depth that Kuosan keeps for a file that Pillow opened."""
    if _is_deep_png(start):
        mode = {0: "L", 2: "RGB", 4: "LA", 6: "RGBA"}[start[25]]
        return ({"L": "LA", "RGB": "RGBA"}[mode] if "transparency" in image.info else mode), "uint16"
    alpha = image.has_transparency_data
    if image.mode == "1":
        return ("LA", "uint8") if alpha else ("1", "uint8")
    if image.mode in ("L", "LA", "La"):
        return ("LA" if alpha else "L"), "uint8"
    if image.mode.startswith("I;16"):
        return "L", "uint16"
    if image.mode in ("I", "F"):
        return "L", "float32"
    if image.mode == "CMYK":
        return "CMYK", "uint8"
    return ("RGBA" if alpha else "RGB"), "uint8"


def _pixels(image: Image.Image, mode: str, dtype: str) -> Pixels:
    if dtype == "uint8" and image.mode != mode:
        # Pillow knows no direct way from a 1-bit or a palette picture with alpha to grey with alpha
        image = image.convert("RGBA").convert("LA") if mode == "LA" else image.convert(mode)
    array = np.asarray(image)
    array = array.astype(np.uint8 if mode == "1" else dtype)
    return array[..., None] if array.ndim == 2 else array


def _is_deep_png(start: bytes) -> bool:
    return start.startswith(_PNG_MAGIC) and len(start) > 25 and start[24] == 16


def _read_deep_png(path: Path, orientation: int) -> Picture:
    import imagecodecs  # heavy, and needed for few files

    array = imagecodecs.png_decode(path.read_bytes())
    if array.dtype != np.uint16:
        raise ValueError("a 16-bit PNG was decoded to another depth")
    array = array[..., None] if array.ndim == 2 else array
    mode = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}[array.shape[2]]
    return Picture(upright(array, orientation), mode)


def _orientation(image: Image.Image) -> int:
    # asking a PNG for EXIF data that it does not announce makes Pillow decode all of it
    if image.format == "PNG" and "exif" not in image.info:
        return 1
    return int(image.getexif().get(_ORIENTATION, 1))


def _start(path: Path) -> bytes:
    with path.open("rb") as file:
        start = file.read(26)
    if not start:
        raise Unreadable("the file is empty (0 bytes)", path)
    return start


def _checked(header: Header, most: int) -> Header:
    if header.width * header.height > most:
        raise Image.DecompressionBombError(f"{header.width}×{header.height}")
    return header


@contextmanager
def named_errors(path: Path) -> Iterator[None]:
    """Turns whatever a decoder throws at a bad file into `Unreadable`."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            yield
    except Unreadable as error:
        raise Unreadable(error.reason, path) from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        reason = f"it claims more than {MAX_PIXELS:,} pixels (a decompression bomb, or far too large)"
        raise Unreadable(reason, path) from None
    except UnidentifiedImageError:
        raise Unreadable("not a picture that Kuosan reads, whatever its name says", path) from None
    except PermissionError:
        raise Unreadable("no permission to read it", path) from None
    except (struct.error, EOFError):
        raise Unreadable("the file ends too early (truncated)", path) from None
    except Exception as error:  # decoders raise anything at all on damaged data; nothing of ours runs in here
        text = " ".join(str(error).split())[:120] or type(error).__name__
        early = "truncated" in text.lower() or "too few" in text.lower()
        reason = "the file ends too early (truncated)" if early else f"the file is damaged ({text})"
        raise Unreadable(reason, path) from None
