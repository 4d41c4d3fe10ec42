"""How predictable texts are to general compressors, in bits per character.

Texts are joined by one NUL and coded as UTF-8. A compressor that has seen the training texts costs

    size(train + held-out) − size(train)                                                                  (1)

bytes for the held-out texts, which is the fair comparison with a trained model; without them it pays for learning
the language as well. Headers of some ten bytes are included, so short texts look a little worse than they are.

    xz      Lempel–Ziv with a range coder (Python's own), preset 9e: sees back 64 MiB
    zstd    Lempel–Ziv with entropy coding, level 22: sees back 128 MiB
    ppmd    prediction by partial matching, variant H, order 6: the best of the three on text; where `pyppmd` is there
"""

from __future__ import annotations

import importlib
import lzma
from collections.abc import Callable, Sequence
from importlib.util import find_spec

SEPARATOR = "\0"
PPMD_ORDER, PPMD_MEMORY = 6, 64 << 20

Compressor = Callable[[bytes], int]  # the compressed size in bytes


def _xz(data: bytes) -> int:
    return len(lzma.compress(data, preset=9 | lzma.PRESET_EXTREME))


def _zstd(data: bytes) -> int:
    import imagecodecs

    return len(imagecodecs.zstd_encode(data, level=22))


def _ppmd(data: bytes) -> int:
    pyppmd = importlib.import_module("pyppmd")
    return len(pyppmd.compress(data, max_order=PPMD_ORDER, mem_size=PPMD_MEMORY, variant="H"))


def compressors() -> dict[str, Compressor]:
    """Those at hand, by name."""
    found: dict[str, Compressor] = {"xz": _xz, "zstd": _zstd}
    if find_spec("pyppmd") is not None:
        found["ppmd"] = _ppmd
    return found


def joined(texts: Sequence[str]) -> bytes:
    """The texts in UTF-8, each ended by `SEPARATOR`."""
    return "".join(text + SEPARATOR for text in texts).encode("utf-8", "surrogatepass")


def compressed_bits(compressor: Compressor, texts: Sequence[str], training: Sequence[str] = ()) -> float:
    """Bits per character of the texts, by eq. (1) where there are training texts.

    Raises ValueError where the texts hold no character.
    """
    characters = sum(map(len, texts))
    if not characters:
        raise ValueError("compression: the texts to be measured hold no character")
    known = compressor(joined(training)) if training else 0
    return 8 * (compressor(joined(training) + joined(texts)) - known) / characters
