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
        face = _nearest(triangles, fine)
        hit = np.flatnonzero(face >= 0)
        image[hit] = _lit(surface, triangles, face[hit])
    pixels = image.reshape(side, FINER, side, FINER, 3).mean((1, 3))
    return np.rint(pixels).astype(np.uint8)


def turntable(
    shape: Shape, side: int = TILE, frames: int = 24, elevation: float = ELEVATION
) -> list[NDArray[np.uint8]]:
    """Pictures of one turn about the vertical."""
    surface = shape.seen()
    return [draw(surface, side, AZIMUTH + 360 * k / frames, elevation) for k in range(frames)]


def animation(shape: Shape, side: int = 128, frames: int = 24) -> bytes:
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
    """The triangle that each ray (row by row from the top) meets first; −1 for none."""
    flat = np.stack([(triangles[:, :, 0] + 1) * side / 2, (1 - triangles[:, :, 1]) * side / 2], 2) - 0.5
    low = np.clip(np.ceil(flat.min(1)), 0, side).astype(np.int64)
    spans = np.maximum(np.clip(np.floor(flat.max(1)) + 1, 0, side).astype(np.int64) - low, 0)
    counts = spans.prod(1)
    best = np.full(side * side, -np.inf)
    face = np.full(side * side, -1, np.int64)
    some = np.flatnonzero(counts)
    if not len(some):
        return face
    for chunk in np.split(some, np.flatnonzero(np.diff(np.cumsum(counts[some]) // _AT_ONCE)) + 1):
        which = np.repeat(chunk, counts[chunk])
        number = np.arange(len(which)) - np.repeat(np.cumsum(counts[chunk]) - counts[chunk], counts[chunk])
        ray = low[which] + np.column_stack([number % spans[which, 0], number // spans[which, 0]])
        a, b, c = (flat[which, i] - ray for i in range(3))
        weights = np.column_stack(
            [b[:, 0] * c[:, 1] - b[:, 1] * c[:, 0], c[:, 0] * a[:, 1] - c[:, 1] * a[:, 0],
             a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]]
        )  # fmt: skip
        area = weights.sum(1)
        met = ((weights >= 0).all(1) | (weights <= 0).all(1)) & (area != 0)
        which, ray, weights, area = which[met], ray[met], weights[met], area[met]
        height = (weights * triangles[which, :, 2]).sum(1) / area
        at = ray[:, 1] * side + ray[:, 0]
        order = np.lexsort((height, at))
        last = order[np.append(np.diff(at[order]) != 0, True)] if len(order) else order
        nearer = height[last] > best[at[last]]
        best[at[last][nearer]], face[at[last][nearer]] = height[last][nearer], which[last][nearer]
    return face
