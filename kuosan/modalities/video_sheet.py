"""Sprite sheets: one picture that is a grid of frames, each row a clip, as a metadata table says.

    file_name,columns,rows
    hero.png,13,21

`columns` frames stand side by side; there are `rows` clips below one another (one unless said), each of `frames` frames
(all unless said, without those at its end that are empty: transparent, or all of the colour of the sheet's corner).  A
clip is called hero.png#07 and its place in the sheet is the condition `row`.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from kuosan.modalities.base import Unreadable
from kuosan.modalities.picture_file import read_picture
from kuosan.modalities.pixels import Header, Picture, has_alpha
from kuosan.modalities.tables import Row
from kuosan.modalities.video_file import Footage
from kuosan.modalities.video_time import evenly

COLUMNS, ROWS, FRAMES, RATE = "columns", "rows", "frames", "fps"


def sheet(path: Path, row: Row) -> Iterator[tuple[int, Footage]]:
    """The clips of a sheet, with the number of each.  Raises `Unreadable`."""
    picture = read_picture(path)
    h, w, c = picture.pixels.shape
    columns, rows = _whole(row, COLUMNS, 1), _whole(row, ROWS, 1)
    if w % columns or h % rows:
        raise Unreadable(f"{w}×{h} pixels cannot be divided into {columns} columns and {rows} rows", path)
    rate = float(row.get(RATE) or 0) or None
    cells = picture.pixels.reshape(rows, h // rows, columns, w // columns, c).swapaxes(1, 2)
    corner = picture.pixels[0, 0]
    for i, clip in enumerate(cells):
        seen = clip[..., -1].astype(bool) if has_alpha(picture.mode) else (clip != corner).any(-1)
        used = np.flatnonzero(seen.any(axis=(1, 2)))
        count = _whole(row, FRAMES, int(used[-1]) + 1 if len(used) else 0)
        if count < 2:
            continue
        frames = [Picture(frame, picture.mode) for frame in clip[:count]]
        header = Header(h // rows, w // columns, c, picture.mode, str(picture.pixels.dtype))
        yield i, Footage(header, len(frames), rate, partial(evenly, frames, rate))


def _whole(row: Row, name: str, usual: int) -> int:
    text = row.get(name)
    if not text:
        return usual
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if value < 1 or value != int(value):
        raise Unreadable(f"its {name} in the table is {text!r}, which is no number of them")
    return int(value)
