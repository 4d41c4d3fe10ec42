"""The signed distance of a mesh on a grid of cells, for meshes as people have them.

Magnitude: the surface is covered with about `DENSITY` points per squared cell; the exact distance to the triangles
around the few points nearest to a cell is its distance to the surface (points inside the solid are hidden, and do not
count).  Sign: rays in three directions (`shape_rays`), on a grid `fine(side)` times as fine; where they disagree
because the mesh has holes, what cannot be reached from outside is inside.

What is thinner than a cell would slip between the cells' centres, and with it the legs of a table.  So of the fine
cells inside, those that an opening by one cell loses, in pieces that reach beyond what it keeps, and surfaces without
any inside (a sheet, a leaf), are the thin parts T, and

    d = min(distance with sign, distance to T − `LEAST`)                                               (1)

gives them a thickness of 2·`LEAST` cells, the least that always shows.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

from kuosan.modalities.shape_frame import Frame, Points, Volume
from kuosan.modalities.shape_rays import votes

LEAST = 0.75  # cells: half the thickness of the thinnest part
DENSITY = 9.0  # points per squared cell
MOST_POINTS = 400_000
NEAR = 4  # points whose triangles are compared
BESIDE = 0.75  # cells: about twice what points lie apart
BALL = 1.25  # cells: the least radius that a point of a cloud gets
SMOOTH = 0.5  # cells: what single points of a cloud are blurred by
_FINEST = 144  # fine cells along a side


def fine(side: int) -> int:
    """How many times finer the grid of the signs is: an odd number, so that cells have their centres in common."""
    return 3 if 3 * side <= _FINEST else 1


def mesh_distance(
    triangles: NDArray[np.float64], frame: Frame, reach: float, closed: bool, oriented: bool
) -> Volume:
    """Signed distances in cells, negative inside, cut off at ±`reach`; `triangles` (f, 3, 3) in cell coordinates.

    `closed` says that the mesh has no holes, `oriented` that its faces look outwards.  Raises `TooDense`.
    """
    factor = fine(max(frame.sides))
    detail = frame.scaled(factor)
    finely = triangles * factor + (factor - 1) / 2
    inside = _inside(finely, detail.sides, closed, oriented)
    points, faces = cover(triangles, DENSITY, MOST_POINTS)
    shown = _shown(points, triangles[faces], inside, factor)
    points, faces = points[shown], faces[shown]
    coarse = slice(factor // 2, None, factor)
    apart = _apart(points, triangles, faces, frame, reach)
    signed = np.where(inside[coarse, coarse, coarse], -apart, apart)
    thin = _thin(inside, points * factor + (factor - 1) / 2, 3 if factor > 1 else 2)
    if len(thin):
        to_thin, _ = cKDTree((thin - (factor - 1) / 2) / factor).query(centres(frame))
        signed = np.minimum(signed, to_thin.reshape(frame.sides) - LEAST)
    return np.clip(signed, -reach, reach).astype(np.float32)


def cloud_distance(points: Points, frame: Frame, reach: float) -> Volume:
    """Of points alone: balls as large as the points lie apart, and what they enclose, a little smoothed; as
    `mesh_distance`."""
    tree = cKDTree(points)
    spacing = float(np.median(tree.query(points, min(5, len(points)))[0][:, -1])) if len(points) > 1 else 0.0
    radius = max(BALL, spacing)
    far = tree.query(centres(frame))[0].reshape(frame.sides) - radius
    solid = (far <= 0) | ~_reached(far > 0)
    depth = ndimage.distance_transform_edt(np.pad(solid, 1, constant_values=False))[1:-1, 1:-1, 1:-1]
    signed = np.clip(np.where(solid, np.minimum(0.5 - depth, far), far), -reach, reach)
    return ndimage.gaussian_filter(signed, SMOOTH, mode="nearest").astype(np.float32)


def centres(frame: Frame) -> Points:
    """Cell coordinates x, y, z of every cell, in the order of the grid."""
    depth, height, width = np.indices(frame.sides).reshape(3, -1)
    return np.column_stack([width, depth, height]).astype(np.float64)


def cover(triangles: NDArray[np.float64], density: float, most: int) -> tuple[Points, NDArray[np.int64]]:
    """Points evenly over triangles, `density` per unit of area and at most `most`, and the face of each."""
    areas = (
        np.linalg.norm(np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0]), axis=1)
        / 2
    )
    count = int(np.clip(density * areas.sum(), 256, most))
    # The additive sequence of the plastic number fills the unit square evenly (Roberts 2018).
    u, v = ((0.5 + np.arange(count)[:, None] * np.array([0.7548776662466927, 0.5698402909980532])) % 1).T
    return scatter(triangles, areas, (np.arange(count) + 0.5) / count, u, v)


def scatter(
    triangles: NDArray[np.float64], areas: NDArray[np.float64], where: NDArray[np.float64],
    u: NDArray[np.float64], v: NDArray[np.float64],
) -> tuple[Points, NDArray[np.int64]]:  # fmt: skip
    """Points on faces drawn by area: `where`, `u` and `v` in [0, 1) say which and where on them."""
    ends = np.cumsum(areas)
    faces = np.minimum(np.searchsorted(ends, where * ends[-1], side="right"), len(areas) - 1)
    root = np.sqrt(u)[:, None]  # Osada et al. 2002, eq. 1
    a, b, c = (triangles[faces, i] for i in range(3))
    return (1 - root) * a + root * (1 - v)[:, None] * b + root * v[:, None] * c, faces


def scattered(triangles: NDArray[np.float64], draws: NDArray[np.float64]) -> Points:
    """Points evenly over triangles (f, 3, 3) by uniform numbers (3, n)."""
    crossed = np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0])
    return scatter(triangles, np.linalg.norm(crossed, axis=1) / 2, *draws)[0]


def _inside(
    triangles: NDArray[np.float64], sides: tuple[int, int, int], closed: bool, oriented: bool
) -> NDArray[np.bool_]:
    found, heard = votes(triangles, sides, oriented)
    inside = 2 * found > heard
    if closed:
        return inside
    points, _ = cover(triangles, 1.0, MOST_POINTS)
    wall = np.zeros(sides, bool)
    at = _cells(points, sides)
    wall[at[1], at[2], at[0]] = True
    hidden = ~_reached(~_window(wall, -1, 1, np.logical_or)) & ~wall
    return np.where(2 * found == heard, hidden, inside)


def _reached(free: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Free cells that are connected with the outside of the grid."""
    labels, _ = ndimage.label(np.pad(free, 1, constant_values=True))
    return (labels == labels[0, 0, 0])[1:-1, 1:-1, 1:-1]


def _cells(points: Points, sides: tuple[int, int, int]) -> NDArray[np.int64]:
    """The cells (3, n) of points, x, y, z."""
    most = np.array([sides[2], sides[0], sides[1]]) - 1
    return np.clip(np.rint(points), 0, most).astype(np.int64).T


def _shown(
    points: Points, triangles: NDArray[np.float64], inside: NDArray[np.bool_], factor: int
) -> NDArray[np.bool_]:
    """Points that have the outside on one side at least; all, where that would leave none."""
    normal = np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0])
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-12)
    sides = []
    for away in (1.0, -1.0):
        x, y, z = _cells((points * factor + (factor - 1) / 2) + away * normal, inside.shape)
        sides.append(inside[y, z, x])
    shown = ~(sides[0] & sides[1])
    return shown if shown.any() else np.ones(len(points), bool)


def _apart(
    points: Points, triangles: NDArray[np.float64], faces: NDArray[np.int64], frame: Frame, reach: float
) -> NDArray[np.float64]:
    """Distances of all cells to the surface, where they are below about `reach`, and `reach` elsewhere."""
    places = centres(frame)
    found = np.full(len(places), reach)
    near, index = cKDTree(points).query(places, NEAR, distance_upper_bound=reach + 1)
    some = np.flatnonzero(np.isfinite(near[:, 0]))
    index = np.where(np.isfinite(near[some]), index[some], index[some, :1])
    here = np.repeat(places[some], NEAR, axis=0)
    closest = _closest(triangles[faces[index]].reshape(-1, 3, 3), here)
    exact = np.linalg.norm(closest - here, axis=1)
    # what lies farther from the point is another part of the triangle, and may be hidden
    beside = np.linalg.norm(closest - points[index.ravel()], axis=1) > BESIDE
    exact = np.where(beside, np.inf, exact).reshape(-1, NEAR).min(1)
    found[some] = np.minimum(exact, near[some, 0])
    return found.reshape(frame.sides)


def _closest(triangles: NDArray[np.float64], points: Points) -> Points:
    """The nearest point of each triangle to its point (Ericson 2004, sec. 5.1.5)."""
    from trimesh.triangles import closest_point

    return np.asarray(closest_point(triangles, points), np.float64)


def _thin(inside: NDArray[np.bool_], points: Points, thick: int) -> Points:
    """Places x, y, z of the parts less than `thick` cells of `inside` thick; `points` are of its surface, there too."""
    kept = _window(_window(inside, 0, thick - 1, np.logical_and), 1 - thick, 0, np.logical_or)
    near = _window(kept, -2, 2, np.logical_or)
    labels, _ = ndimage.label(inside & ~kept, np.ones((3, 3, 3)))
    beyond = np.unique(labels[~near])
    depth, height, width = np.nonzero(np.isin(labels, beyond[beyond > 0]))
    x, y, z = _cells(points, inside.shape)
    sheet = points[~_window(inside, -1, 1, np.logical_or)[y, z, x]]
    return np.concatenate([np.column_stack([width, depth, height]).astype(np.float64), sheet])


def _window(mask: NDArray[np.bool_], first: int, last: int, join: np.ufunc) -> NDArray[np.bool_]:
    """All, or any, of the cells from `first` to `last` along every axis; there are none beyond the grid."""
    for axis in range(3):
        n = mask.shape[axis]
        reach = [(max(0, -first), max(0, last)) if a == axis else (0, 0) for a in range(3)]
        padded = np.moveaxis(np.pad(mask, reach), axis, 0)
        found = padded[:n].copy()
        for k in range(1, last - first + 1):
            join(found, padded[k : k + n], out=found)
        mask = np.moveaxis(found, 0, axis)
    return mask
