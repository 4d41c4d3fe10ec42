"""Many sounds in one .npz: joined end to end with their places, or as rows of one length.

    audio (N,), offsets (n + 1,)     sound i is audio[offsets[i] : offsets[i + 1]]                         (1)
    audio (N,), lengths (n,)         the same, by how long each is                                         (2)
    audio (n, L)                     rows                                                                  (3)

with `sample_rate` beside them.  Other arrays of n values become columns, and where an array of names has a column's
plural (speakers for speaker), that column's numbers are places in it.  Whole numbers count by their depth: 16 bits
are divided by 32,768.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kuosan.modalities.arrays import class_texts, load_arrays, texts
from kuosan.modalities.audio_container import RATES, SOUNDS
from kuosan.modalities.audio_file import MOST_RATE, Samples, Sound, SoundHeader
from kuosan.modalities.base import Unreadable
from kuosan.modalities.tables import Row

PLACES, LENGTHS = ("offsets", "offset", "starts"), ("lengths", "length")
LABELS = ("labels", "label", "y")
Array = NDArray[np.generic]


@dataclass(frozen=True, eq=False)
class Packed:
    """The sounds of one file: joined `samples` with the `bounds` of each, and `rows` of what is known of them."""

    samples: Array
    bounds: NDArray[np.int64]
    rate: int
    rows: list[Row]

    def __len__(self) -> int:
        return len(self.bounds) - 1

    def headers(self) -> list[SoundHeader]:
        """One of each sound."""
        depth = str(self.samples.dtype)
        return [SoundHeader(self.rate, 1, n, depth) for n in np.diff(self.bounds).tolist()]

    def __iter__(self) -> Iterator[Sound]:
        for start, stop in zip(self.bounds, self.bounds[1:], strict=False):
            yield Sound(_plain(self.samples[start:stop])[:, None], self.rate)


def read_packed(path: Path) -> Packed:
    """The sounds of an .npz.  Raises `Unreadable` where its arrays do not go together."""
    loaded = load_arrays(path)
    arrays = {path.stem: loaded} if isinstance(loaded, np.ndarray) else loaded
    names = {name.lower(): name for name in arrays}

    def take(words: tuple[str, ...]) -> Array | None:
        return next((arrays.pop(names[word]) for word in words if names.get(word) in arrays), None)

    audio, rate = take(SOUNDS), take(RATES)
    if audio is None or rate is None or audio.dtype.kind not in "iuf":
        raise Unreadable(f"no array of sounds ({', '.join(SOUNDS[:3])} …) with a sample_rate beside it", path)
    per_second = int(rate.reshape(-1)[0]) if rate.size == 1 and rate.dtype.kind in "iuf" else 0
    if not 1 <= per_second <= MOST_RATE:
        raise Unreadable("its sample_rate is not one number of samples a second", path)
    bounds = _bounds(audio, take(PLACES), take(LENGTHS), path)
    return Packed(audio.reshape(-1), bounds, per_second, _rows(arrays, len(bounds) - 1))


def _bounds(audio: Array, places: Array | None, lengths: Array | None, path: Path) -> NDArray[np.int64]:
    if audio.ndim == 2:
        return np.arange(len(audio) + 1, dtype=np.int64) * audio.shape[1]
    if audio.ndim == 1 and places is not None and places.ndim == 1 and places.dtype.kind in "iu":
        bounds = places.astype(np.int64)
        if len(bounds) and bounds[-1] != len(audio):
            bounds = np.append(bounds, len(audio))
    elif audio.ndim == 1 and lengths is not None and lengths.ndim == 1 and lengths.dtype.kind in "iu":
        bounds = np.concatenate([[0], np.cumsum(lengths.astype(np.int64))])
    else:
        raise Unreadable("its sounds are joined, without offsets or lengths that tell them apart", path)
    if len(bounds) < 2 or bounds[0] != 0 or bounds[-1] != len(audio) or (np.diff(bounds) < 0).any():
        raise Unreadable(f"its offsets do not divide the {len(audio):,} samples into sounds", path)
    return bounds


def _rows(arrays: dict[str, Array], n: int) -> list[Row]:
    """What other arrays say of each sound."""
    columns: dict[str, list[str | None]] = {}
    words = {name.lower(): texts(array) for name, array in arrays.items() if array.dtype.kind == "U"}
    for name, array in arrays.items():
        found = class_texts(array, n) if array.ndim <= 2 else None
        if found is None:
            continue
        plural = words.get(f"{name.lower()}s") if array.dtype.kind in "iu" else None
        if plural is not None and int(array.max(initial=0)) < len(plural):
            found = [plural[int(i)] for i in array.reshape(-1)]
        columns["class" if name.lower() in LABELS else name] = found
    return [{name: values[i] for name, values in columns.items()} for i in range(n)]


def _plain(values: Array) -> Samples:
    if values.dtype.kind == "f":
        return values.astype(np.float32)
    info = np.iinfo(values.dtype)  # type: ignore[type-var]
    middle = 0 if values.dtype.kind == "i" else (int(info.max) + 1) // 2
    full = int(info.max) + 1 - middle
    return ((values.astype(np.float64) - middle) / full).astype(np.float32)
