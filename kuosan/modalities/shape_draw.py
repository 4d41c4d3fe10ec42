"""Pictures of shapes without a screen: a small rasteriser, turntables and overview sheets.

Parallel projection from a place `azimuth` degrees to the right of the front and `elevation` above the floor; every
pixel shows the triangle nearest to the eye (z-buffer), with the light

    shade = AMBIENT + (1 − AMBIENT) · |n · l|                                                           (1)

(Lambert 1760) of its normal n and the direction l of a lamp beside the eye.  Both sides of a triangle are lit alike,
so that nothing is black where a mesh is inside out.  `FINER` rays per pixel and side are averaged.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from kuosan.modalities.grid import grid_picture
from kuosan.modalities.pixels import Picture
from kuosan.modalities.shape_raw import Shape, Surface

AMBIENT, FINER = 0.35, 2
AZIMUTH, ELEVATION = 35.0, 25.0
CLAY = np.array([186, 192, 203], np.float64)
PAPER = 255.0
TILE = 96
_AT_ONCE = 4_000_000  # pairs of a triangle and a ray


def draw(
    surface: Surface, side: int = TILE, azimuth: float = AZIMUTH, elevation: float = ELEVATION
) -> NDArray[np.uint8]:
    """A picture (side, side, 3) of all of a surface, as large as it can be turned about in it."""
    fine = side * FINER
    image = np.full((fine * fine, 3), PAPER)
    if len(surface.faces):
        low, high = surface.bounds
        middle = (low + high) / 2
        far = max(float(np.linalg.norm(high - low)) / 2, 1e-12)
        right, over, back = _view(azimuth, elevation)
        seen = (surface.vertices - middle) @ np.stack([right, over, back], 1) / far
        triangles = seen[surface.faces]
        closed = surface.closed and surface.oriented
        towards = np.flatnonzero(_facing(triangles) > 0) if closed else np.arange(len(triangles))
        face = _nearest(triangles[towards], fine)
        hit = np.flatnonzero(face >= 0)
        image[hit] = _lit(surface, triangles, towards[face[hit]])
    pixels = image.reshape(side, FINER, side, FINER, 3).mean((1, 3))
    return np.rint(pixels).astype(np.uint8)


def turntable(
    shape: Shape, side: int = TILE, frames: int = 24, elevation: float = ELEVATION
) -> list[NDArray[np.uint8]]:
    """Pictures of one turn about the vertical."""
    surface = shape.seen()
    return [draw(surface, side, AZIMUTH + 360 * k / frames, elevation) for k in range(frames)]


def animation(shape: Shape, side: int = 96, frames: int = 12) -> bytes:
    """A turntable as WebP, two seconds a turn."""
    pictures = [Image.fromarray(picture) for picture in turntable(shape, side, frames)]
    file = io.BytesIO()
    pictures[0].save(
        file,
        "WEBP",
        save_all=True,
        append_images=pictures[1:],
        duration=round(2000 / frames),
        loop=0,
        quality=70,
    )
    return file.getvalue()


def shape_sheet(shapes: Sequence[Shape], columns: int | None = None, scale: int | None = None) -> Image.Image:
    """All shapes on one sheet, each as large as fits; `scale` times 32 pixels, about three unless given."""
    side = 32 * scale if scale else min(TILE, max(48, 1600 // max(1, math.isqrt(len(shapes)))))
    return grid_picture([Picture(draw(shape.seen(), side), "RGB") for shape in shapes], columns, 1)


def _view(azimuth: float, elevation: float) -> tuple[NDArray[np.float64], ...]:
    """Right, over and towards the eye, for an eye that looks at the front (−y) from its right and above."""
    a, e = math.radians(azimuth), math.radians(elevation)
    right = np.array([math.cos(a), math.sin(a), 0.0])
    back = np.array([math.sin(a) * math.cos(e), -math.cos(a) * math.cos(e), math.sin(e)])
    return right, np.cross(back, right), back


def _facing(triangles: NDArray[np.float64]) -> NDArray[np.float64]:
    """Above 0 where a triangle looks towards the eye."""
    a, b = triangles[:, 1, :2] - triangles[:, 0, :2], triangles[:, 2, :2] - triangles[:, 0, :2]
    return a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]


def _lit(surface: Surface, triangles: NDArray[np.float64], face: NDArray[np.int64]) -> NDArray[np.float64]:
    found, place = np.unique(face, return_inverse=True)
    a, b, c = (triangles[found, i] for i in range(3))
    normal = np.cross(b - a, c - a)
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-300)
    lamp = np.array([-0.35, 0.6, 0.72])
    shade = AMBIENT + (1 - AMBIENT) * np.abs(normal @ (lamp / np.linalg.norm(lamp)))
    colour = CLAY if surface.tints is None else surface.tints[surface.faces[found, 0]].astype(np.float64)
    return (shade[:, None] * colour)[place]


def _nearest(triangles: NDArray[np.float64], side: int) -> NDArray[np.int64]:
    """The triangle that each ray (row by row from the top) meets first; −1 for none.

    Inside a triangle its three edge functions, linear in the ray's place, are at least 0 (Pineda 1988).
    """
    flat = np.stack([(triangles[:, :, 0] + 1) * side / 2, (1 - triangles[:, :, 1]) * side / 2], 2) - 0.5
    low = np.clip(np.ceil(flat.min(1)), 0, side).astype(np.int64)
    spans = np.maximum(np.clip(np.floor(flat.max(1)) + 1, 0, side).astype(np.int64) - low, 0)
    ahead, behind = np.roll(flat, -1, 1), np.roll(flat, -2, 1)
    edges = np.stack(
        [ahead[:, :, 1] - behind[:, :, 1], behind[:, :, 0] - ahead[:, :, 0],
         ahead[:, :, 0] * behind[:, :, 1] - ahead[:, :, 1] * behind[:, :, 0]], 1
    )  # fmt: skip
    area = edges[:, 2].sum(1)
    some = np.flatnonzero((spans.prod(1) > 0) & (area != 0))
    best, face = np.full(side * side, -np.inf), np.full(side * side, -1, np.int64)
    if not len(some):
        return face
    edges = edges[some] / area[some, None, None]  # x, y, 1 → weights of the corners
    planes = (edges * triangles[some, None, :, 2]).sum(2)
    counts = spans[some].prod(1)
    for chunk in np.split(np.arange(len(some)), np.flatnonzero(np.diff(np.cumsum(counts) // _AT_ONCE)) + 1):
        which = np.repeat(chunk, counts[chunk])
        number = np.arange(len(which)) - np.repeat(np.cumsum(counts[chunk]) - counts[chunk], counts[chunk])
        wide = spans[some[which], 0]
        x, y = low[some[which], 0] + number % wide, low[some[which], 1] + number // wide
        met = np.ones(len(which), bool)
        for corner in range(3):
            a, b, c = edges[:, :, corner].T
            met &= a[which] * x + b[which] * y + c[which] >= 0
        which, at = which[met], y[met] * side + x[met]
        a, b, c = planes.T
        height = a[which] * x[met] + b[which] * y[met] + c[which]
        np.maximum.at(best, at, height)
        nearest = height >= best[at]
        face[at[nearest]] = some[which[nearest]]
    return face
