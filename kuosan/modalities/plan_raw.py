"""A floor plan as people mean it: rooms with outlines, and openings in the walls between them.

Coordinates grow to the right and downwards, as on paper. Where `metres` is known one unit is so many metres; where it
is not, lengths are in shares of a drawing and no area is ever given in square metres.

Walls are what separates: the boundary of every room, except where an opening without a door joins two of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import shapely
from shapely.geometry import LineString, Polygon
from shapely.geometry.base import BaseGeometry

Point = tuple[float, float]
Ring = tuple[Point, ...]
Kind = Literal["door", "window", "opening"]
KINDS: tuple[Kind, ...] = ("door", "window", "opening")


@dataclass(frozen=True)
class Room:
    """What it is for, and its outline; `holes` are other rooms that stand inside it."""

    category: str
    outline: Ring
    holes: tuple[Ring, ...] = ()

    @cached_property
    def polygon(self) -> Polygon:
        return Polygon(self.outline, self.holes)

    @property
    def area(self) -> float:
        """In squares of the plan's unit."""
        return float(self.polygon.area)

    @classmethod
    def of(cls, category: str, polygon: Polygon) -> Room:
        """A room in one form, whatever order a polygon's corners came in: no corner on a straight line."""
        polygon = shapely.normalize(polygon)
        return cls(
            category, _ring(polygon.exterior.coords), tuple(_ring(r.coords) for r in polygon.interiors)
        )


@dataclass(frozen=True)
class Opening:
    """A straight piece of a wall that is a door or a window, or where there is no wall."""

    kind: Kind
    a: Point
    b: Point

    @property
    def middle(self) -> Point:
        return (self.a[0] + self.b[0]) / 2, (self.a[1] + self.b[1]) / 2

    @property
    def length(self) -> float:
        return float(((self.a[0] - self.b[0]) ** 2 + (self.a[1] - self.b[1]) ** 2) ** 0.5)


@dataclass(frozen=True)
class Plan:
    """Rooms that do not overlap, and the openings between them and to the outside.

    Args:
        metres: how long a unit is; None where nobody knows. name: of a plan among others in one file.
        step: of the grid that Kuosan drew it on, in units; None of other plans.
    """

    rooms: tuple[Room, ...]
    openings: tuple[Opening, ...] = ()
    metres: float | None = None
    name: str = ""
    step: float | None = None

    @property
    def outline(self) -> BaseGeometry:
        """All that is covered by rooms."""
        return shapely.union_all([room.polygon for room in self.rooms])

    @cached_property
    def bounds(self) -> tuple[float, float, float, float]:
        x0, y0, x1, y1 = shapely.total_bounds([room.polygon for room in self.rooms])
        return float(x0), float(y0), float(x1), float(y1)

    @property
    def area(self) -> float:
        """Of all rooms, in squares of the unit."""
        return sum(room.area for room in self.rooms)

    def square_metres(self, area: float) -> float | None:
        """An area of the plan, where it is known how long a unit is."""
        return None if self.metres is None else area * self.metres**2

    def walls(self) -> list[tuple[Point, Point]]:
        """Straight pieces of wall, doors and windows standing in them; openings are gaps."""
        lines = shapely.union_all([room.polygon.boundary for room in self.rooms])
        gaps = [LineString((o.a, o.b)) for o in self.openings if o.kind == "opening"]
        if gaps:
            lines = lines.difference(shapely.union_all(gaps))
        merged = shapely.line_merge(lines) if lines.geom_type == "MultiLineString" else lines
        found = []
        for part in shapely.get_parts(merged):
            corners = _open_ring(list(part.coords))
            found += [(a, b) for a, b in zip(corners[:-1], corners[1:], strict=True)]
        return found


def between(plan: Plan, reach: float) -> list[tuple[Opening, tuple[int, ...]]]:
    """Every opening with the rooms (by number) that it touches within ``reach``: one where it leads outside."""
    shapes = [room.polygon for room in plan.rooms]
    found = []
    for opening in plan.openings:
        line = LineString((opening.a, opening.b))
        apart = [(float(shape.distance(line.centroid)), i) for i, shape in enumerate(shapes)]
        near = sorted((d, i) for d, i in apart if d <= reach)[:2]
        found.append((opening, tuple(sorted(i for _, i in near))))
    return found


def _ring(coords: Iterable[Sequence[float]]) -> Ring:
    """Corners in order, without those on a straight line and without the first one again."""
    points = [(float(p[0]), float(p[1])) for p in coords][:-1]
    n = len(points)
    return tuple(p for i, p in enumerate(points) if not _straight(points[i - 1], p, points[(i + 1) % n]))


def _open_ring(points: list[Any]) -> list[Point]:
    """The corners of a line: its ends, and where it turns."""
    if len(points) < 3:
        return [(float(p[0]), float(p[1])) for p in points]
    kept = [p for i, p in enumerate(points[1:-1], 1) if not _straight(points[i - 1], p, points[i + 1])]
    return [(float(p[0]), float(p[1])) for p in (points[0], *kept, points[-1])]


def _straight(a: Any, b: Any, c: Any) -> bool:
    return abs((b[0] - a[0]) * (c[1] - b[1]) - (b[1] - a[1]) * (c[0] - b[0])) < 1e-9
