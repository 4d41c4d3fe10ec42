"""Time in clips: frames that are shown from some moment on, brought to one rate, and files cut into windows.

Frame i is shown from its time τ_i until τ_{i+1}. At r frames a second, output j is the frame that is shown at j/r:

    i(j) = max { i : τ_i ≤ τ_0 + j/r + 1/(10 r) },        j = 0, 1, … while j/r is before the end                (1)

so that frames are left out or repeated but never mixed; the tenth of a frame absorbs the milliseconds to which
containers round. What is at rate r already comes out as it went in.

A work of n frames is seen in windows of L: it is divided evenly into max(1, ⌊n/L⌋) items, item k of

    [⌊k n / count⌋, ⌊(k + 1) n / count⌋),        each at least L frames where n ≥ L                               (2)

shows its first L frames, and in training any L frames from where it overlaps its neighbour by all but one frame: every
frame of every work is trained on, and no two items share a frame. A work of fewer frames holds its last one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import chain

import numpy as np
import torch
from torch import Tensor

from kuosan.errors import UserError
from kuosan.modalities.pixels import Picture
from kuosan.modalities.ragged import Ragged

Shown = tuple[
    float, Callable[[], Picture]
]  # the moment from which a frame is shown, in seconds, and what decodes it

_LATE = 0.1  # of a frame
_AMOUNT = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*(s|sec|seconds?|ms|f|frames?)?\s*$")


def resampled(frames: Iterable[Shown], rate: float, last: float) -> Iterator[Picture]:
    """Equation (1); the last frame is shown for ``last`` seconds. Only frames that come out are decoded."""
    shown: Shown | None = None
    begin, j = 0.0, 0
    for following in chain(frames, (None,)):
        if shown is None:
            begin = following[0] if following else 0.0
        else:
            end = following[0] if following else shown[0] + last
            picture: Picture | None = None
            while begin + (j + _LATE) / rate < end:
                picture = shown[1]() if picture is None else picture
                yield picture
                j += 1
            if following and following[0] < shown[0]:  # a clock that goes back stands still
                following = shown[0], following[1]
        shown = following


def evenly(pictures: Iterable[Picture], rate: float | None) -> Iterator[Shown]:
    """Pictures shown one after another, at one a second where no rate is known."""
    for i, picture in enumerate(pictures):
        yield i / (rate or 1.0), partial(_itself, picture)


def _itself(picture: Picture) -> Picture:
    return picture


def frames_of(text: str | int, rate: float) -> int:
    """Frames in "4s", "500ms", "120frames" or a plain number of them.

    Raises:
        UserError: it is none of these, or no frame at all.
    """
    found = _AMOUNT.match(str(text).lower())
    if found is None:
        raise UserError(f"'{text}' is no length of a clip: give seconds (4s), frames (16frames) or a number")
    value, unit = float(found[1]), found[2] or "frames"
    scale = rate if unit.startswith("s") else rate / 1000 if unit == "ms" else 1.0
    count = round(value * scale)
    if count < 1:
        raise UserError(f"{text} is less than one frame at {rate:g} a second: give a longer time")
    return count


def windows(stream: Tensor, lengths: Sequence[int], length: int) -> tuple[Ragged, list[int]]:
    """The items of works that lie one after another in the stream, by equation (2), and how many each has."""
    n = np.asarray(lengths, dtype=np.int64)
    counts = np.maximum(1, n // length)
    of = np.repeat(np.arange(len(n)), counts)
    number = np.concatenate([np.arange(count) for count in counts])
    begins = (np.cumsum(n) - n)[of]
    start = begins + number * n[of] // counts[of]
    stop = begins + (number + 1) * n[of] // counts[of]
    low = np.maximum(begins, start - length + 1)
    parts = [torch.from_numpy(part.astype(np.int64)) for part in (start, stop, low, stop)]
    return Ragged(stream, *parts), counts.tolist()
