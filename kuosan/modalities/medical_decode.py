"""Compressed pixels of DICOM files by imagecodecs, which Kuosan has for pictures anyway.

pydicom knows uncompressed, deflated and run-length encoded pixels by itself and asks plug-ins for the rest; this module
is one, and adds lossless, lossy and near-lossless JPEG of any depth, JPEG-LS and JPEG 2000.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from pydicom import uid
from pydicom.pixels.decoders import base

_JPEG = (uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit)
_LOSSLESS = (uid.JPEGLossless, uid.JPEGLosslessSV1)
_LS = (uid.JPEGLSLossless, uid.JPEGLSNearLossless)
_2000 = (uid.JPEG2000Lossless, uid.JPEG2000, uid.HTJ2KLossless, uid.HTJ2KLosslessRPCL, uid.HTJ2K)
KNOWN = (*_JPEG, *_LOSSLESS, *_LS, *_2000)
DECODER_DEPENDENCIES = dict.fromkeys(KNOWN, ("imagecodecs",))  # pydicom asks plug-ins for it
LABEL = "kuosan"


def is_available(syntax: str) -> bool:
    """Whether this plug-in decodes a transfer syntax."""
    return syntax in DECODER_DEPENDENCIES


def decode_frame(source: bytes, runner: Any) -> bytearray:
    """One frame as pydicom wants it: values of the stored width, one after the other."""
    import imagecodecs

    syntax = runner.transfer_syntax
    if syntax in _JPEG:
        pixels = imagecodecs.jpeg8_decode(source)
    elif syntax in _LOSSLESS:
        pixels = imagecodecs.ljpeg_decode(source)
    elif syntax in _LS:
        pixels = imagecodecs.jpegls_decode(source)
    else:
        pixels = imagecodecs.jpeg2k_decode(source)
    pixels = np.ascontiguousarray(pixels)
    runner.set_option("bits_allocated", 8 * pixels.itemsize)
    return bytearray(pixels.tobytes())


def register() -> None:
    """Tell pydicom of this plug-in, once; others that are installed are asked first."""
    for syntax in KNOWN:
        decoder = base_decoder(syntax)
        if decoder is not None and LABEL not in decoder.available_plugins:
            decoder.add_plugin(LABEL, (__name__, "decode_frame"))


def base_decoder(syntax: Any) -> base.Decoder | None:
    """pydicom's decoder of a transfer syntax; None where it knows none."""
    from pydicom.pixels import get_decoder

    try:
        return get_decoder(syntax)
    except NotImplementedError:
        return None
