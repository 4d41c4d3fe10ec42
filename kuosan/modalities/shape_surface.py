"""Closed surfaces of grids: marching cubes (Lorensen & Cline 1987; Lewiner et al. 2003, by scikit-image).

The grid is padded with the outside, so the surface is closed.  Cells that lie on it to within `NUDGE` are moved off:
vertices that coincide would make edges that more than two faces share.

A model of blocks keeps its edges: each block is sampled twice along every axis, `EDGE` inside its faces, so that the
faces are flat and the edges are cut by no more than that; where two blocks touch along an edge only, the surface
keeps them apart, and is closed all the same.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kuosan.modalities.shape_frame import Points

NUDGE = 0.01  # of the unit that distances have
EDGE = 0.01  # cells
Faces = NDArray[np.int64]


def level_set(distances: NDArray[np.float32]) -> tuple[Points, Faces]:
    """Vertices in cell coordinates x, y, z and faces that look outwards, where the distance is 0."""
    from skimage.measure import marching_cubes

    far = max(float(np.abs(distances).max(initial=0)), 1.0)
    values = np.pad(distances.astype(np.float32), 1, constant_values=far)
    values = np.where(np.abs(values) < NUDGE, np.where(values < 0, -NUDGE, NUDGE), values).astype(np.float32)
    if not (values < 0).any():
        return np.zeros((0, 3)), np.zeros((0, 3), np.int64)
    vertices, faces, _, _ = marching_cubes(values, 0.0, allow_degenerate=False)
    points = (vertices.astype(np.float64) - 1)[:, [2, 0, 1]]
    faces = faces.astype(np.int64)
    return points, faces if volume(points, faces) > 0 else faces[:, ::-1]


def blocks_surface(filled: NDArray[np.bool_]) -> tuple[Points, Faces, NDArray[np.int64]]:
    """The surface of blocks as `level_set`, and the block (depth, height, width) of every vertex."""
    values = np.where(
        filled, np.float32(-1.0), np.float32(1.2)
    )  # no ties: what touches along an edge is apart
    doubled = values.repeat(2, 0).repeat(2, 1).repeat(2, 2)
    points, faces = level_set(doubled)
    # cell k of the doubled grid is at k//2 ± (½ − EDGE) of the blocks; between these, straight lines
    places = np.arange(-1, 2 * max(filled.shape) + 1)
    at = places // 2 + np.where(places % 2 == 0, EDGE - 0.5, 0.5 - EDGE)
    warped = np.interp(points, places, at)
    # a vertex lies between a block and what is not: the block is on the side that is filled
    low, high = np.floor(points + 1e-9).astype(np.int64), np.ceil(points - 1e-9).astype(np.int64)
    ends = [np.clip(end[:, [1, 2, 0]] // 2, 0, np.array(filled.shape) - 1) for end in (low, high)]
    inside = [
        filled[tuple(e.T)] & ((end >= 0) & (end < 2 * np.array(filled.shape)[[2, 0, 1]])).all(1)
        for e, end in zip(ends, (low, high), strict=True)
    ]
    return warped, faces, np.where(inside[0][:, None], ends[0], ends[1])


def quads(filled: NDArray[np.bool_]) -> tuple[Points, Faces, NDArray[np.int64]]:
    """The faces of blocks that can be seen, two triangles each, for looking at: as `blocks_surface`, unconnected."""
    padded = np.pad(filled, 1)
    corners, owners = [], []
    for axis in range(3):
        others = [a for a in range(3) if a != axis]
        for side in (0, 1):
            beyond = np.roll(padded, 1 - 2 * side, axis)[1:-1, 1:-1, 1:-1]
            block = np.argwhere(filled & ~beyond)
            face = np.repeat(block[:, None].astype(np.float64), 4, 1)
            face[:, :, axis] += side - 0.5
            around = ((-1, -1), (1, -1), (1, 1), (-1, 1))
            for corner, (p, q) in enumerate(around if (side == 1) == (axis != 1) else around[::-1]):
                face[:, corner, others[0]] += p / 2
                face[:, corner, others[1]] += q / 2
            corners.append(face)
            owners.append(block)
    points = np.concatenate(corners).reshape(-1, 3)[:, [2, 0, 1]]
    owner = np.repeat(np.concatenate(owners), 4, 0)
    first = 4 * np.arange(len(points) // 4)[:, None]
    faces = np.concatenate([first + [0, 1, 2], first + [0, 2, 3]])
    return points, faces, owner


def volume(points: Points, faces: Faces) -> float:
    """The volume that a closed surface holds: a sixth of Σ a · (b × c)."""
    a, b, c = (points[faces[:, i]] for i in range(3))
    return float(np.einsum("ij,ij->i", a, np.cross(b, c)).sum() / 6)


def area(points: Points, faces: Faces) -> float:
    """The area of a surface."""
    a, b, c = (points[faces[:, i]] for i in range(3))
    return float(np.linalg.norm(np.cross(b - a, c - a), axis=1).sum() / 2)
