"""Plans in pictures: walls drawn dark on light, read by what they enclose.

    1. dark pixels are wall; a picture without dark lines on a light ground is refused,
    2. gaps up to a doorway are closed: the walls, thickened by a growing radius r, cut the light into regions; the
       smallest r that leaves regions enclosed, and enough of them, is taken,
    3. what the rim reaches is outside; every other region is a room, grown back to the middle of its walls,
    4. where a region meets another through a gap that was closed, there is a door.                          (1)

A picture says neither what rooms are for nor how large they are: they are "room", without a scale. Photographs, shaded
pictures and drawings whose outline is open are refused.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from kuosan.modalities.base import Unreadable
from kuosan.modalities.plan_raw import Kind, Point, Room
from kuosan.modalities.plan_walls import Drawing, Segment
from kuosan.modalities.plan_words import ROOM

SIDE = 400  # pixels that a picture is read at
DARK, LIGHT = 110, 180
BETWEEN = 0.15  # share of pixels that are neither, from which a picture is no drawing
WALLS = (0.004, 0.5)  # share of pixels that are wall
LEAST = 0.003  # of the picture: the smallest room
DOORWAY = 0.07  # of the longer side: the widest gap that is closed

OUTSIDE = 1_000_000

Mask = NDArray[np.bool_]


def read_raster(path: Path) -> Drawing:
    """The drawing of a picture.  Raises `Unreadable`."""
    try:
        with Image.open(path) as image:
            grey = image.convert("RGBA") if "A" in image.mode or image.mode == "P" else image
            if grey.mode == "RGBA":
                paper = Image.new("RGBA", grey.size, "white")
                grey = Image.alpha_composite(paper, grey)
            grey = grey.convert("L")
            grey.thumbnail((SIDE, SIDE), Image.Resampling.BOX)
            values = np.asarray(grey, dtype=np.int64)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        raise Unreadable("it is no picture that can be read", path) from None
    middle = float(((values > DARK) & (values < LIGHT)).mean())
    walls = values <= (DARK + LIGHT) // 2
    share = float(walls.mean())
    if middle > BETWEEN or not WALLS[0] <= share <= WALLS[1]:
        raise Unreadable(
            f"it does not show dark walls on a light ground ({share:.0%} is dark, {middle:.0%} in between)",
            path,
        )
    regions = _regions(walls)
    if regions is None:
        raise Unreadable(
            "its walls enclose no room: the outline is open, or the gaps are wider than doors", path
        )
    grown = _grown(regions)
    return Drawing(rooms=_outlines(grown), leaves=_doors(grown, walls))


def _regions(walls: Mask) -> NDArray[np.int32] | None:
    """Rooms by number and what is `OUTSIDE`, 0 on walls and closed gaps; None where nothing is enclosed."""
    padded = np.pad(walls, _rim(walls))
    least = LEAST * walls.size
    best: tuple[int, NDArray[np.int32]] | None = None
    for radius in range(int(DOORWAY * max(walls.shape) / 2) + 1):
        closed = padded if radius == 0 else ndimage.distance_transform_edt(~padded) <= radius
        labels, n = ndimage.label(~closed)
        sizes = np.bincount(labels.ravel(), minlength=n + 1)
        kept = [k for k in range(1, n + 1) if k != labels[0, 0] and sizes[k] >= least / 2]
        if kept and (best is None or len(kept) > best[0]):
            number = np.zeros(n + 1, dtype=np.int32)
            number[kept] = np.arange(1, len(kept) + 1)
            number[labels[0, 0]] = OUTSIDE
            best = len(kept), number[labels]
    return None if best is None else best[1]


def _rim(values: NDArray[Any]) -> int:
    """Pixels of paper around a picture, more than half a doorway."""
    return max(2, int(DOORWAY * max(values.shape) / 2)) + 3


def _grown(regions: NDArray[np.int32]) -> NDArray[np.int32]:
    """Every region, outside included, up to the middle of what separates it from the next; 0 is outside."""
    where = ndimage.distance_transform_edt(regions == 0, return_distances=False, return_indices=True)
    found = regions[tuple(where)]
    return np.where(found == OUTSIDE, 0, found).astype(np.int32)


def _outlines(rooms: NDArray[np.int32]) -> tuple[Room, ...]:
    """Rooms as unions of runs of pixels, along simplified lines."""
    import shapely
    from shapely.geometry import box

    found = []
    for k in range(1, int(rooms.max()) + 1):
        boxes = []
        for y, row in enumerate(rooms == k):
            edges = np.flatnonzero(np.diff(row.astype(np.int8), prepend=0, append=0))
            boxes += [
                box(a, y, b, y + 1) for a, b in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)
            ]
        if boxes:
            shape = shapely.union_all(boxes)
            largest = max(shapely.get_parts(shape), key=lambda p: p.area)
            found.append(Room.of(ROOM, largest))
    return tuple(found)


def _doors(rooms: NDArray[np.int32], walls: Mask) -> tuple[tuple[Kind, Segment], ...]:
    """Where two rooms, or a room and the outside, meet and no wall is drawn: the longest such stretch of each pair."""
    drawn = np.pad(walls, _rim(walls))
    thick = ndimage.binary_dilation(drawn, iterations=2)
    best: dict[tuple[int, int], tuple[int, Segment]] = {}
    for upright in (True, False):
        grid, free = (rooms, ~thick) if upright else (rooms.T, ~thick.T)
        left, right = grid[:, :-1], grid[:, 1:]
        gap = (left != right) & free[:, :-1] & free[:, 1:]
        for x in np.flatnonzero(gap.any(0)).tolist():
            labels, n = ndimage.label(gap[:, x])
            for k in range(1, n + 1):
                rows = np.flatnonzero(labels == k)
                one, two = int(left[rows[0], x]), int(right[rows[0], x])
                pair = min(one, two), max(one, two)
                a: Point = (x + 1.0, float(rows[0]))
                b: Point = (x + 1.0, float(rows[-1] + 1))
                segment = (a, b) if upright else ((a[1], a[0]), (b[1], b[0]))
                if len(rows) > best.get(pair, (2, segment))[0]:
                    best[pair] = len(rows), segment
    return tuple(("door", segment) for _, segment in best.values())
