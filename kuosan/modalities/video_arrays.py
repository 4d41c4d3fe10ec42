"""Clips in arrays: .npy and .npz of (n, t, h, w, c), with their labels and columns as pictures have them.

Layouts.  Channels are an axis of at most 4: the last, else the one before height (n, t, c, h, w), else the second
(n, c, t, h, w).  Four axes with channels are one clip (t, h, w, c), without them clips in grey (n, t, h, w); three are
one clip in grey.  More axes in front number clips by what they tell apart, (character, direction, t, h, w, c): each is
a column, called by the one array of an .npz that has a name for each of its places, else axis0, axis1 …
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from kuosan.modalities.array_headers import CLIP_WORDS
from kuosan.modalities.arrays import Form, texts
from kuosan.modalities.pixels import Pixels

RATES = ("fps", "rate", "frame_rate")
_MOST_CHANNELS = 4


def layout(array: Pixels, fellows: bool = False) -> Pixels | None:
    """An array as clips (n, t, h, w, c), or None where its axes are not those of clips."""
    shape = array.shape
    if array.dtype.kind not in "biuf" or 0 in shape or len(shape) < 3:
        return None
    if len(shape) == 3:
        return array[None, ..., None]
    if len(shape) == 4:
        if shape[3] <= _MOST_CHANNELS:
            return array[None]
        return np.moveaxis(array, 1, -1)[None] if shape[1] <= _MOST_CHANNELS else array[..., None]
    axis = next((axis for axis in (-1, -3, -4) if shape[axis] <= _MOST_CHANNELS), None)
    if axis is None:
        return None
    return np.moveaxis(array.reshape(-1, *shape[-4:]), axis, -1)


def leading(array: Pixels, others: Mapping[str, Pixels]) -> dict[str, list[str | None]]:
    """The place of every clip along each of several axes in front, as columns."""
    front = array.shape[:-4]
    if len(front) < 2:
        return {}
    n = math.prod(front)
    columns: dict[str, list[str | None]] = {}
    for axis, size in enumerate(front):
        named = [
            key for key, a in others.items() if a.ndim == 1 and len(a) == size and a.dtype.kind in "biufUS"
        ]
        alone = len(named) == 1 and front.count(size) == 1
        words = texts(others[named[0]]) if alone else [str(i) for i in range(size)]
        place = np.indices(front)[axis].reshape(n)
        columns[named[0] if alone else f"axis{axis}"] = [words[i] for i in place.tolist()]
    return columns


CLIPS = Form("clips", (*CLIP_WORDS, "images", "x", "data"), layout, leading)
