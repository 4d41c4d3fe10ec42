"""Where a shape stands in a grid of cells: the one place that knows the three axes.

Positions are (x, y, z) with z up, in the data's own unit.  Grids are arrays (depth, height, width) of cell centres:
width runs along x, depth along y, height along z from the floor.  A shape stands centred on the floor, so

    place of a centre k along an axis of n cells = centre + (k − (n − 1)/2) · cell      along x and y
                                                 = floor + (k + ½ − margin) · cell       along z              (1)

and its size is kept where all shapes of a data set share one `cell`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]  # (n, 3): x, y, z
Number = TypeVar("Number", bound=np.generic)
Volume = NDArray[np.float32]  # (depth, height, width)

AXES = ("depth", "height", "width")
OF_GRID = (1, 2, 0)  # the axis of (x, y, z) that depth, height and width run along


@dataclass(frozen=True)
class Frame:
    """A grid of `sides` (depth, height, width) cells, `cell` units wide, with `margin` cells below the floor."""

    sides: tuple[int, int, int]
    cell: float
    margin: float = 0.0

    @property
    def sizes(self) -> tuple[int, int, int]:
        """Cells along x, y and z."""
        depth, height, width = self.sides
        return width, depth, height

    def cells(self, points: Points, low: Points, high: Points) -> Points:
        """Points of a shape that reaches from `low` to `high` in cell coordinates, eq. 1 solved for k: x, y, z."""
        middle = (np.array(self.sizes) - 1) / 2
        at = (points - (low + high) / 2) / self.cell + middle
        at[:, 2] = (points[:, 2] - low[2]) / self.cell + self.margin - 0.5
        return at

    def places(self, cells: Points) -> Points:
        """Cell coordinates as positions, of a shape that stands at the origin: eq. 1."""
        middle = np.array([(self.sizes[0] - 1) / 2, (self.sizes[1] - 1) / 2, self.margin - 0.5])
        return (cells - middle) * self.cell

    def scaled(self, factor: int) -> Frame:
        """The same room in cells `factor` times as fine."""
        sides = tuple(side * factor for side in self.sides)
        return Frame(sides, self.cell / factor, self.margin * factor)  # type: ignore[arg-type]


def to_grid(volume: NDArray[Number]) -> NDArray[Number]:
    """An array (x, y, z, …) as (depth, height, width, …)."""
    return np.ascontiguousarray(np.moveaxis(volume, (1, 2, 0), (0, 1, 2)))


def to_space(grid: NDArray[Number]) -> NDArray[Number]:
    """An array (depth, height, width, …) as (x, y, z, …)."""
    return np.ascontiguousarray(np.moveaxis(grid, (0, 1, 2), (1, 2, 0)))


def turned_volume(volume: NDArray[Number], up: str) -> NDArray[Number]:
    """An array (x, y, z, …) whose axis `up` is up, with z up instead: as `turned`."""
    if up == "y":
        return np.swapaxes(volume, 1, 2)[:, ::-1]
    return np.moveaxis(volume, 0, 2) if up == "x" else volume


def turned(points: Points, up: str, back: bool = False) -> Points:
    """Points whose axis `up` is up, with z up instead, by a rotation; `back` undoes it."""
    if up == "y":  # (x, y, z) → (x, −z, y)
        return points[:, [0, 2, 1]] * ([1, 1, -1] if back else [1, -1, 1])
    if up == "x":  # (x, y, z) → (y, z, x)
        return points[:, [2, 0, 1]] if back else points[:, [1, 2, 0]]
    return points
