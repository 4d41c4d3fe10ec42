"""Sprite sheets: one picture that is a grid of frames, each row a clip, as a metadata table says.

    file_name,columns,rows
    hero.png,13,21

`columns` frames stand side by side; there are `rows` clips below one another (one unless said), each of `frames` frames
(all unless said, without those at its end that are empty: transparent, or all of the colour of the sheet's corner).  A
clip is called hero.png#07 and its place in the sheet is the condition `row`.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache, partial
from pathlib import Path

import numpy as np

from kuosan.modalities.base import Unreadable
from kuosan.modalities.picture_file import read_picture
from kuosan.modalities.pixels import Header, Picture, Pixels, has_alpha
from kuosan.modalities.tables import Row
from kuosan.modalities.video_file import Footage
from kuosan.modalities.video_time import Shown, evenly

COLUMNS, ROWS, FRAMES, RATE = "columns", "rows", "frames", "fps"


def sheet(path: Path, row: Row) -> Iterator[tuple[int, Footage]]:
    """The clips of a sheet, with the number of each.  Raises `Unreadable`."""
    columns, rows = _whole(row, COLUMNS, 1), _whole(row, ROWS, 1)
    rate = _number(row, RATE, 0.0) or None
    _cells.cache_clear()  # the file may be another one by now
    picture, cells = _cells(path, columns, rows)
    h, w, c = cells.shape[2:]
    header = Header(h, w, c, picture.mode, str(picture.pixels.dtype))
    alpha, corner = has_alpha(picture.mode), picture.pixels[0, 0]
    for i, clip in enumerate(cells):
        seen = clip[..., -1].astype(bool) if alpha else (clip != corner).any(-1)
        used = np.flatnonzero(seen.any(axis=(1, 2)))
        count = _whole(row, FRAMES, int(used[-1]) + 1 if len(used) else 0)
        if count > 1:
            yield i, Footage(header, count, rate, partial(_frames, path, columns, rows, i, count, rate))


@lru_cache(maxsize=1)
def _cells(path: Path, columns: int, rows: int) -> tuple[Picture, Pixels]:
    """A sheet, and its frames (rows, columns, h, w, c); the last one is kept, as its clips follow one another."""
    picture = read_picture(path)
    h, w, c = picture.pixels.shape
    if w % columns or h % rows:
        raise Unreadable(f"{w}×{h} pixels cannot be divided into {columns} columns and {rows} rows", path)
    return picture, picture.pixels.reshape(rows, h // rows, columns, w // columns, c).swapaxes(1, 2)


def _frames(path: Path, columns: int, rows: int, i: int, count: int, rate: float | None) -> Iterator[Shown]:
    picture, cells = _cells(path, columns, rows)
    return evenly((Picture(frame, picture.mode) for frame in cells[i, :count]), rate)


def _whole(row: Row, name: str, usual: int) -> int:
    value = _number(row, name, usual)
    if value != int(value):
        raise Unreadable(f"its {name} in the table is {row[name]!r}, and not a whole number")
    return int(value)


def _number(row: Row, name: str, usual: float) -> float:
    text = row.get(name)
    if not text:
        return usual
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1e6:
        raise Unreadable(f"its {name} in the table is {text!r}, which is no number of them")
    return value
