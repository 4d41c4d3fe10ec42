"""Music on a grid: voices or chords, step by step, as research data come; in JSON, .npy and .npz.

    a voice grid      steps of V numbers each, the pitch of every voice; -1 (or null, or NaN) is silence
    chords            steps of any number of pitches, those that sound
    a piano roll      (steps, 128) or (128, steps), what is not 0 sounds

A file holds one piece, or a list of them, or parts {"train": […], "valid": […], "test": […]}. Such data do not say
where notes begin: a pitch that follows itself is one note that is held. Nor do they say how long a step is: it is a
sixteenth note, unless the file's name says otherwise ("jsb-chorales-quarter.json", "8th") or the archive has a
``resolution`` (steps per quarter).
"""

from __future__ import annotations

import json
import math
import re
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kuosan.modalities.base import Unreadable
from kuosan.modalities.music_score import Note, Part, Score
from kuosan.modalities.sides import side_of_word

MOST_BYTES = 2**28
MOST_VOICES = 16
KEYS = 128
SATB = ("Soprano", "Alto", "Tenor", "Bass")
_HEAD = re.compile(rb'^\s*(?:\{\s*"\w+"\s*:\s*)?\[\s*\[\s*(?:\[\s*(?:-?\d+|null)|\[\s*\])')
_NUMBER = re.compile(rb"-?\d+(?:\.\d+)?")


def is_grid(head: bytes) -> bool:
    """Whether a JSON file that begins so is music on a grid: lists of lists of lists of pitches."""
    return _HEAD.match(head) is not None and all(
        number.lstrip(b"-").isdigit() and -1 <= int(number) < KEYS for number in _NUMBER.findall(head)[:-1]
    )


def read_grids(path: Path) -> list[tuple[str, Score]]:
    """Every piece of a file, with its side ("train", "val", "test" or "").  Raises `Unreadable`."""
    if path.stat().st_size > MOST_BYTES:
        raise Unreadable(f"it has more than {MOST_BYTES >> 20} MiB")
    step = steps_of_name(path.name)
    found: list[tuple[str, Score]] = []
    if path.suffix.lower() == ".json":
        for side, pieces in _json(path):
            found += [(side, score) for piece in pieces if (score := _score(piece, step)) is not None]
    else:
        for side, array, own in _arrays(path):
            for piece in _pieces(array):
                score = _score(piece, own or step)
                found += [(side, score)] if score is not None else []
    if not found:
        raise Unreadable("it holds no note on a grid")
    return found


def has_voices(score: Score) -> bool:
    """Whether the grid had one column per voice, rather than chords."""
    return all(part.name for part in score.parts)


def steps_of_name(name: str) -> int:
    """Steps of a quarter, as a file's name says it.

    >>> steps_of_name("jsb-chorales-quarter.json"), steps_of_name("Jsb16thSeparated.json"), steps_of_name("a_8th.npz")
    (1, 4, 2)
    """
    found = re.search(r"(?<!\d)(4|8|16|32)th", name.lower())
    return max(1, int(found[1]) // 4) if found else 1 if "quarter" in name.lower() else 4


def _json(path: Path) -> Iterator[tuple[str, list[Any]]]:
    try:
        tree = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"it is no JSON ({error})") from None
    parts = tree.items() if isinstance(tree, dict) else [("", tree)]
    for name, pieces in parts:
        if not isinstance(pieces, list) or not pieces:
            continue
        if _depth(pieces) == 2:
            pieces = [pieces]
        if _depth(pieces) != 3:
            raise Unreadable("it is JSON, but no music on a grid (pieces of steps of pitches)")
        yield side_of_word(str(name)) or "", pieces


def _depth(tree: Any) -> int:
    """How many lists lie within each other, by the first that is not empty."""
    if not isinstance(tree, list):
        return 0
    return 1 + max((_depth(part) for part in tree[:8]), default=0)


def _arrays(path: Path) -> Iterator[tuple[str, np.ndarray[Any, Any], int]]:
    """(side, array, steps per quarter or 0) of every array that can be music."""
    try:
        loaded: Any = np.load(path, allow_pickle=False)
        arrays = {"": loaded} if isinstance(loaded, np.ndarray) else {k: loaded[k] for k in loaded.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error, KeyError) as error:
        why = (
            "it holds Python objects, which are never opened"
            if "pickle" in str(error).lower()
            else str(error)
        )
        raise Unreadable(f"its arrays cannot be read ({why})") from None
    own = arrays.get("resolution", arrays.get("beat_resolution"))
    for name, array in arrays.items():
        if array.ndim in (2, 3) and array.dtype.kind in "biuf" and array.size:
            step = (
                int(own.reshape(-1)[0]) if own is not None and own.size == 1 and own.dtype.kind in "iu" else 0
            )
            yield side_of_word(name) or "", array, step if 1 <= step <= 96 else 0


def _pieces(array: np.ndarray[Any, Any]) -> Iterator[list[list[Any]]]:
    """Steps of every piece in an array."""
    for piece in array if array.ndim == 3 else array[None]:
        if KEYS in piece.shape:
            roll = piece if piece.shape[1] == KEYS else piece.T
            yield [np.flatnonzero(step > 0).tolist() for step in np.nan_to_num(roll)]
        elif piece.shape[1] <= MOST_VOICES:
            yield [[p if math.isfinite(p) else -1 for p in step] for step in piece.tolist()]
        else:
            raise Unreadable(f"its array {piece.shape} is neither voices by steps nor a roll of {KEYS} keys")


def _score(piece: Sequence[Sequence[Any]], step: int) -> Score | None:
    """The piece on a grid of so many steps per quarter; None where nothing sounds."""
    try:
        rows = [[-1 if p is None else int(p) for p in row] for row in piece]
    except (TypeError, ValueError):
        raise Unreadable("a step of it is no list of pitches") from None
    if any(max(row, default=0) >= KEYS for row in rows):
        raise Unreadable(f"it holds numbers that are no pitches (0 … {KEYS - 1})")
    width = {len(row) for row in rows}
    if len(width) == 1 and 1 <= (v := next(iter(width))) <= MOST_VOICES:
        names = SATB if v == 4 else tuple(f"Voice {k + 1}" for k in range(v))
        grid = np.array(rows, dtype=np.int64)
        parts = [Part(tuple(_line(grid[:, k], step)), names[k]) for k in range(v)]
    else:
        roll = np.full((len(rows), KEYS), -1, dtype=np.int64)
        for sounds, row in zip(roll, rows, strict=True):
            heard = [p for p in row if p >= 0]
            sounds[heard] = heard
        lines = [_line(roll[:, p], step) for p in np.flatnonzero(roll.max(0) >= 0)]
        parts = [Part(tuple(sorted(note for line in lines for note in line)))]
    score = Score(tuple(parts), end=len(rows) / step)
    return score if score.notes else None


def _line(pitches: np.ndarray[Any, Any], step: int) -> list[Note]:
    """One voice's notes: runs of one pitch."""
    begins = np.flatnonzero(np.diff(pitches, prepend=pitches[:1] - 1))
    ends = np.append(begins[1:], len(pitches))
    runs = zip(begins.tolist(), ends.tolist(), pitches[begins].tolist(), strict=True)
    return [Note(a / step, (b - a) / step, p) for a, b, p in runs if p >= 0]
