"""IDX, the container of MNIST (Y. LeCun, C. Cortes, C. Burges: "The MNIST database", file formats).

    0x00 0x00 TYPE NDIM | NDIM sizes, 4 bytes each, big-endian | values, big-endian, last axis fastest

with TYPE 08 uint8, 09 int8, 0B int16, 0C int32, 0D float32, 0E float64; mostly compressed with gzip.
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np

from kuosan.modalities.base import Unreadable
from kuosan.modalities.pixels import Pixels

_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_GZIP = b"\x1f\x8b"
MAX_BYTES = 8 << 30  # a header is four numbers: it must not be able to ask for all the memory there is


def read_idx(path: Path) -> Pixels:
    """The array in an IDX file, plain or compressed.  Raises `Unreadable` where header and length differ."""
    try:
        with path.open("rb") as file:
            compressed = file.read(2) == _GZIP
        with gzip.open(path) if compressed else path.open("rb") as stream:
            return _read(stream)  # type: ignore[arg-type]
    except Unreadable as error:
        raise Unreadable(error.reason, path) from None
    except EOFError:
        raise Unreadable("the file ends too early (truncated)", path) from None
    except (OSError, zlib.error) as error:
        raise Unreadable(f"the file is damaged ({error})", path) from None


def _read(stream: BinaryIO) -> Pixels:
    magic = stream.read(4)
    if not magic:
        raise Unreadable("the file is empty (0 bytes)")
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in _TYPES or not magic[3]:
        raise Unreadable("it does not begin as an IDX file does")
    sizes = stream.read(4 * magic[3])
    if len(sizes) < 4 * magic[3]:
        raise EOFError
    shape = struct.unpack(f">{magic[3]}I", sizes)
    dtype = np.dtype(_TYPES[magic[2]])
    length = math.prod(shape) * dtype.itemsize
    if length > MAX_BYTES:
        raise Unreadable(f"its header asks for {length:,} bytes")
    body = stream.read(length + 1)
    if len(body) < length:
        raise EOFError
    if len(body) > length:
        raise Unreadable(f"it holds more than the {length:,} bytes that its header says")
    return np.frombuffer(body, dtype).reshape(shape).astype(dtype.newbyteorder("="))
