"""Shapes as they come and go: blocks, surfaces, fields and clouds of points.

    Surface   triangles; read from meshes, and what every other kind can be turned into
    Blocks    voxels on a lattice, with a colour each or without; read from .vox files and arrays
    Field     a signed distance on a grid, negative inside; what a model makes
    Cloud     points of a surface, and nothing between them

Positions are x, y, z with z up, in the units of their files (`shape_frame`).
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from kuosan.modalities import shape_surface
from kuosan.modalities.shape_distance import cloud_distance, mesh_distance, scattered
from kuosan.modalities.shape_frame import Frame, Points, Volume, to_space

Colours = NDArray[np.uint8]  # (n, 3), or (depth, height, width, 3)
BEAD = 0.012  # radius of a drawn point, of the diagonal of its cloud
SHADES = ((52, 68, 130), (62, 150, 160), (238, 190, 90))  # of points, from the lowest to the highest
OCTAHEDRON = np.array([(1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, -1, 0), (0, 0, 1), (0, 0, -1)], np.float64)
OCTAHEDRON_FACES = np.array(
    [(0, 2, 4), (2, 1, 4), (1, 3, 4), (3, 0, 4), (2, 0, 5), (1, 2, 5), (3, 1, 5), (0, 3, 5)], np.int64
)


class Shape(ABC):
    """One solid thing, however it is described."""

    kind: ClassVar[str]
    mended: str = ""
    """What had to be done to it when it was read."""

    @property
    def unit(self) -> float:
        """How wide a voxel of its file is, where it consists of voxels."""
        return 1.0

    @property
    def count(self) -> int:
        """How many points it consists of, where it consists of points."""
        return 0

    @property
    def painted(self) -> Colours | None:
        """The colours (n, 3) of its voxels, where it has them."""
        return None

    @property
    @abstractmethod
    def bounds(self) -> tuple[Points, Points]:
        """The lowest and the highest x, y and z."""

    @property
    def extents(self) -> Points:
        """How far it reaches along x, y and z."""
        low, high = self.bounds
        return high - low

    def standing(self, frame: Frame, each: bool) -> Frame:
        """The frame with cells in which it fits: wider ones where it is too large, and with `each` as fits just."""
        sizes = np.array(frame.sizes) - 2 * frame.margin
        fits = float((self.extents / sizes).max())
        return replace(frame, cell=fits) if fits > frame.cell * (1 + 1e-9) or (each and fits > 0) else frame

    @abstractmethod
    def distances(self, frame: Frame, reach: float) -> Volume:
        """Signed distances in cells of `frame`, negative inside, cut off at ±`reach`, of the shape standing there."""

    @abstractmethod
    def solid(self) -> Surface:
        """Its closed surface; of a surface, itself."""

    @abstractmethod
    def parts(self) -> tuple[NDArray[np.generic], ...]:
        """The arrays that it consists of."""

    def seen(self) -> Surface:
        """Triangles that look the same from outside, for drawing."""
        return self.solid()

    def spread(self, draws: NDArray[np.float64]) -> Points:
        """Points of its surface, drawn by area with uniform numbers (3, n); of a shape without one all at its place."""
        surface = self.seen()
        if not len(surface.faces):
            return np.zeros((draws.shape[1], 3))
        return scattered(surface.vertices[surface.faces], draws)

    def points_of(self, count: int) -> Points:
        """So many points of its surface, always the same ones."""
        return self.spread(self._chance().random((3, count)))

    def _chance(self) -> np.random.Generator:
        return np.random.default_rng(int.from_bytes(self.digest()[:8]))

    def blocks(self, frame: Frame) -> Blocks:
        """The cells of `frame` that are inside."""
        return Blocks.of_grid(self.distances(frame, 1.0) < 0, None, frame.cell)

    def colours(self, frame: Frame) -> Colours | None:
        """The colour of every cell, of cells outside that of the nearest inside; None where it has none."""
        return None

    def digest(self) -> bytes:
        """Equal where shapes are."""
        digest = hashlib.sha256(self.kind.encode())
        for part in self.parts():
            digest.update(f"{part.shape} {part.dtype}".encode() + np.ascontiguousarray(part).tobytes())
        return digest.digest()

    def same(self, other: Shape) -> bool:
        """True where kind and every number are equal."""
        return self.digest() == other.digest()


@dataclass(frozen=True, eq=False)
class Surface(Shape):
    """Triangles `vertices[faces]`; `tints` (n, 3) colour vertices; `closed` where no hole was found, `oriented` where
    all faces look outwards."""

    vertices: Points
    faces: NDArray[np.int64]
    tints: Colours | None = None
    closed: bool = True
    oriented: bool = True
    mended: str = ""

    kind: ClassVar[str] = "surface"

    @property
    def bounds(self) -> tuple[Points, Points]:
        if not len(self.faces):
            return np.zeros(3), np.zeros(3)
        used = self.vertices[self.faces].reshape(-1, 3)
        return used.min(0), used.max(0)

    def distances(self, frame: Frame, reach: float) -> Volume:
        if not len(self.faces):
            return np.full(frame.sides, reach, np.float32)
        cells = frame.cells(self.vertices, *self.bounds)
        return mesh_distance(cells[self.faces], frame, reach, self.closed, self.oriented)

    def solid(self) -> Surface:
        return self

    def parts(self) -> tuple[NDArray[np.generic], ...]:
        return (self.vertices, self.faces, *([] if self.tints is None else [self.tints]))


@dataclass(frozen=True, eq=False)
class Blocks(Shape):
    """Voxels at `positions` (n, 3), x, y, z from 0 and in order, `cell` units wide, in `paint` (n, 3) or without."""

    positions: NDArray[np.int64]
    paint: Colours | None = None
    cell: float = 1.0

    kind: ClassVar[str] = "blocks"

    @property
    def unit(self) -> float:
        return self.cell

    @property
    def painted(self) -> Colours | None:
        return self.paint

    @classmethod
    def of(cls, positions: NDArray[np.int64], paint: Colours | None = None, cell: float = 1.0) -> Blocks:
        """Blocks anywhere in any order; where two lie in one place, the later one counts."""
        if not len(positions):
            return cls(np.zeros((0, 3), np.int64), paint, cell)
        found = positions.astype(np.int64) - positions.min(0)
        _, nx, ny = found.max(0) + 1
        number = (found[:, 0] * nx + found[:, 1]) * ny + found[:, 2]
        last = len(found) - 1 - np.unique(number[::-1], return_index=True)[1]
        return cls(found[last], None if paint is None else paint[last], cell)

    @classmethod
    def of_grid(cls, filled: NDArray[np.bool_], paint: Colours | None = None, cell: float = 1.0) -> Blocks:
        """Blocks of a grid (depth, height, width)."""
        space = to_space(filled)
        return cls.of(np.argwhere(space), None if paint is None else to_space(paint)[space], cell)

    @property
    def bounds(self) -> tuple[Points, Points]:
        size = self.positions.max(0) + 1 if len(self.positions) else np.zeros(3, np.int64)
        return np.zeros(3), (size * self.cell).astype(np.float64)

    def places(self, frame: Frame) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """The cell (depth, height, width) of every block; several in one where blocks are the smaller ones."""
        at = frame.cells(((self.positions + 0.5) * self.cell).astype(np.float64), *self.bounds)
        width, depth, height = np.floor(at + 0.5 - 1e-6).astype(np.int64).T
        return tuple(np.clip(k, 0, n - 1) for k, n in zip((depth, height, width), frame.sides, strict=True))

    def filled(self, frame: Frame) -> NDArray[np.bool_]:
        """Which cells hold a block."""
        out = np.zeros(frame.sides, bool)
        out[self.places(frame)] = True
        return out

    def distances(self, frame: Frame, reach: float) -> Volume:
        if frame.cell < 0.999 * self.cell:  # blocks of many cells
            return self.solid().distances(frame, reach)
        return block_distance(self.filled(frame), reach)

    def colours(self, frame: Frame) -> Colours | None:
        if self.paint is None or not len(self.positions):
            return None
        filled = self.filled(frame)
        out = np.zeros((*frame.sides, 3), np.uint8)
        out[self.places(frame)] = self.paint
        nearest = ndimage.distance_transform_edt(~filled, return_distances=False, return_indices=True)
        return out[tuple(nearest)]

    @cached_property
    def _own(self) -> tuple[NDArray[np.bool_], NDArray[np.int64], Frame]:
        sizes = self.positions.max(0) + 1 if len(self.positions) else np.ones(3, np.int64)
        frame = Frame((int(sizes[1]), int(sizes[2]), int(sizes[0])), self.cell)
        x, y, z = self.positions.T
        number = np.full(frame.sides, -1)
        number[y, z, x] = np.arange(len(self.positions))
        return number >= 0, number, frame

    def _surface(self, vertices: Points, faces: NDArray[np.int64], block: NDArray[np.int64]) -> Surface:
        _, number, frame = self._own
        tints = None if self.paint is None else self.paint[number[tuple(block.T)]]
        return Surface(frame.places(vertices), faces, tints)

    def solid(self) -> Surface:
        return self._surface(*shape_surface.blocks_surface(self._own[0]))

    def seen(self) -> Surface:
        return self._surface(*shape_surface.quads(self._own[0]))

    def blocks(self, frame: Frame) -> Blocks:
        return self

    def parts(self) -> tuple[NDArray[np.generic], ...]:
        return (self.positions, np.array(self.cell), *([] if self.paint is None else [self.paint]))


@dataclass(frozen=True, eq=False)
class Field(Shape):
    """Signed distances `values` in cells, on the grid of `frame`."""

    values: Volume
    frame: Frame

    kind: ClassVar[str] = "field"

    @property
    def bounds(self) -> tuple[Points, Points]:
        return self.solid().bounds

    def standing(self, frame: Frame, each: bool) -> Frame:
        return frame if frame == self.frame else super().standing(frame, each)

    def distances(self, frame: Frame, reach: float) -> Volume:
        if frame == self.frame:
            return np.clip(self.values, -reach, reach)
        return self.solid().distances(frame, reach)

    @cached_property
    def _solid(self) -> Surface:
        vertices, faces = shape_surface.level_set(self.values)
        return Surface(self.frame.places(vertices), faces)

    def solid(self) -> Surface:
        return self._solid

    def parts(self) -> tuple[NDArray[np.generic], ...]:
        return (self.values, np.array([self.frame.cell, self.frame.margin]))


@dataclass(frozen=True, eq=False)
class Cloud(Shape):
    """Points of a surface, to be drawn in the colours `tints` (n, 3), or by how high they lie."""

    points: Points
    tints: Colours | None = None

    kind: ClassVar[str] = "points"

    @property
    def count(self) -> int:
        return len(self.points)

    def spread(self, draws: NDArray[np.float64]) -> Points:
        """So many of its points, always the same ones; all as they are where it has so many, and some twice where it
        has fewer."""
        count = draws.shape[1]
        if count == self.count:
            return self.points
        order = self._chance().permutation(self.count)
        return self.points[np.resize(order, count)]

    def seen(self) -> Surface:
        """A bead at each point."""
        low, high = self.bounds
        far = max(float(np.linalg.norm(high - low)), 1e-12)
        tints = self._heights() if self.tints is None else self.tints
        vertices = self.points[:, None] + BEAD * far * OCTAHEDRON
        faces = OCTAHEDRON_FACES + len(OCTAHEDRON) * np.arange(self.count)[:, None, None]
        return Surface(vertices.reshape(-1, 3), faces.reshape(-1, 3), np.repeat(tints, len(OCTAHEDRON), 0))

    def _heights(self) -> Colours:
        z = self.points[:, 2]
        at = (z - z.min()) / max(float(np.ptp(z)), 1e-12)
        steps = np.linspace(0, 1, len(SHADES))
        return np.stack([np.interp(at, steps, shade) for shade in np.array(SHADES).T], 1).astype(np.uint8)

    @property
    def bounds(self) -> tuple[Points, Points]:
        return self.points.min(0), self.points.max(0)

    def distances(self, frame: Frame, reach: float) -> Volume:
        return cloud_distance(frame.cells(self.points, *self.bounds), frame, reach)

    def solid(self) -> Surface:
        """On a grid of 64 cells along the longest side."""
        side = 64
        frame = Frame((side, side, side), max(float(self.extents.max()), 1e-9) / (side - 4), 2.0)
        return Field(self.distances(frame, 3.0), frame).solid()

    def parts(self) -> tuple[NDArray[np.generic], ...]:
        return (self.points,)


def block_distance(filled: NDArray[np.bool_], reach: float) -> Volume:
    """From cells' centres to the faces of blocks, as far as the nearest centre tells: k − ½ at k cells from the other
    side; what lies beyond the grid is empty."""
    if not filled.any():
        return np.full(filled.shape, reach, np.float32)
    outside = ndimage.distance_transform_edt(~filled) - 0.5
    depth = ndimage.distance_transform_edt(np.pad(filled, 1))[1:-1, 1:-1, 1:-1] - 0.5
    return np.clip(np.where(filled, -depth, outside), -reach, reach).astype(np.float32)
