"""Which cells of a grid lie inside a mesh: rays along the three axes, all at once.

Along one column of cells a ray enters the mesh where a triangle faces it and leaves where one looks away.  With
s = +1 and −1 for the two, the winding number of a cell is

    w(k) = Σ s over the crossings before cell k,      total = w(∞)                                     (1)

(Jacobson et al. 2013, sec. 3, of one ray).  A total that is not 0 has seen a hole, and that ray says nothing.  A cell
is inside where most rays that say something say w ≠ 0.  Where the faces have no common orientation, w counts every
crossing modulo 2.  The rays stand a little beside the cells' centres, by amounts that no modeller's grid has, so that
they meet no edges.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from kuosan.modalities.shape_frame import OF_GRID, Points, to_grid

_ASIDE = (1.37e-4, 2.71e-4)  # cells
_AT_ONCE = 2_000_000  # pairs of a triangle and a column
MOST = 400_000_000  # pairs in all: half a minute


class TooDense(ValueError):
    """More crossings than can be counted."""


def votes(
    triangles: NDArray[np.float64], sides: tuple[int, int, int], oriented: bool = True
) -> tuple[NDArray[np.int8], NDArray[np.int8]]:
    """How many of three rays find each cell inside, and how many say anything at all: two grids of `sides`.

    `triangles` (f, 3, 3) are in cell coordinates x, y, z.  Raises `TooDense`.
    """
    sizes = tuple(sides[OF_GRID.index(axis)] for axis in range(3))
    inside, heard = np.zeros(sizes, np.int8), np.zeros(sizes, np.int8)
    for axis in range(3):
        u, v = (a for a in range(3) if a != axis)
        steps = np.zeros((sizes[u], sizes[v], sizes[axis] + 1), np.int32)
        for column, depth, sign in _crossings(triangles[:, :, [u, v, axis]], (sizes[u], sizes[v])):
            place = np.clip(np.ceil(depth), 0, sizes[axis]).astype(np.int64)
            np.add.at(steps, (column[:, 0], column[:, 1], place), sign if oriented else 1)
        winding = steps.cumsum(2)
        total = winding[:, :, -1:] if oriented else winding[:, :, -1:] % 2
        winding = winding[:, :, :-1] if oriented else winding[:, :, :-1] % 2
        here = np.broadcast_to(total == 0, winding.shape)
        for grid, found in ((inside, here & (winding != 0)), (heard, here)):
            grid += np.moveaxis(found, 2, axis).astype(np.int8)
    return to_grid(inside).astype(np.int8), to_grid(heard).astype(np.int8)


def _crossings(
    triangles: NDArray[np.float64], shape: tuple[int, int]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int32]]]:
    """Columns (n, 2), depths and signs of all places where a ray along the last axis meets a triangle."""
    flat = triangles[:, :, :2] - np.array(_ASIDE)
    low = np.clip(np.ceil(flat.min(1)), 0, shape).astype(np.int64)
    high = np.clip(np.floor(flat.max(1)) + 1, 0, shape).astype(np.int64)
    spans = np.maximum(high - low, 0)
    counts = spans.prod(1)
    if counts.sum() > MOST:
        raise TooDense(f"its faces would be crossed {int(counts.sum()):,} times")
    some = np.flatnonzero(counts)
    if not len(some):
        return
    parts = np.flatnonzero(np.diff(np.cumsum(counts[some]) // _AT_ONCE)) + 1
    for chunk in np.split(some, parts):
        face = np.repeat(chunk, counts[chunk])
        number = np.arange(len(face)) - np.repeat(np.cumsum(counts[chunk]) - counts[chunk], counts[chunk])
        column = low[face] + np.column_stack([number // spans[face, 1], number % spans[face, 1]])
        a, b, c = (flat[face, i] - column for i in range(3))
        weights = np.column_stack([_cross(b, c), _cross(c, a), _cross(a, b)])
        area = weights.sum(1)
        met = ((weights > 0).all(1) | (weights < 0).all(1)) & (area != 0)
        face, column, weights, area = face[met], column[met], weights[met], area[met]
        depth = (weights * triangles[face, :, 2]).sum(1) / area
        # (u, v, axis) is a left-handed order for the middle axis alone, and the sign of a closed surface is free
        yield column, depth, np.where(area > 0, 1, -1).astype(np.int32)


def _cross(a: Points, b: Points) -> NDArray[np.float64]:
    return a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]
