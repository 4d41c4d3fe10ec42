"""Lines, outlines and words of a drawing, whatever the kind of file, and the drawing that they come to.

Names decide (`plan_words`): of layers, classes, properties. Lines that nobody named are walls where no wall is named;
closed ones are rooms where they are called by a use, or where nothing else is a room and no wall is drawn. A wall, door
or window drawn as an area is its middle line.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import shapely
from shapely.geometry import LineString, Polygon

from kuosan.modalities.plan_raw import Kind, Point, Ring, Room
from kuosan.modalities.plan_walls import Drawing, Seed, Segment
from kuosan.modalities.plan_words import ROOM, WALL, category, kind_of_part, part_of

_UNSAID = frozenset({"", "0", "none", "default", "layer", "layer1", "path", "svg", "g", "defpoints"})


@dataclass
class Sketch:
    """What a reader has found so far."""

    walls: list[Segment] = field(default_factory=list)
    leaves: list[tuple[Kind, Segment]] = field(default_factory=list)
    seeds: list[Seed] = field(default_factory=list)
    rooms: list[Room] = field(default_factory=list)
    lines: list[Segment] = field(default_factory=list)
    areas: list[Ring] = field(default_factory=list)

    def line(self, name: str, points: Sequence[Point]) -> None:
        """An open line of this name."""
        pieces = [(a, b) for a, b in zip(points[:-1], points[1:], strict=True) if a != b]
        part = _part(name)
        if part == WALL:
            self.walls += pieces
        elif (kind := kind_of_part(part)) and pieces:
            self.leaves.append(
                (kind, (points[0], points[-1])) if len(points) == 2 else (kind, _middle_line(points))
            )
        elif part == "unsaid":
            self.lines += pieces

    def area(self, name: str, outline: Sequence[Point], holes: Sequence[Sequence[Point]] = ()) -> None:
        """A closed one."""
        ring = tuple(outline[:-1] if len(outline) > 1 and outline[0] == outline[-1] else outline)
        if len(ring) < 3:
            self.line(name, list(outline))
            return
        part = _part(name)
        if part == WALL or kind_of_part(part):
            if not np.isfinite(ring).all():
                segment = (ring[0], ring[1])
            else:
                segment = _middle_line(ring)
            if part == WALL:
                self.walls += [segment] if _thin(ring) else list(zip(ring, (*ring[1:], ring[0]), strict=True))
            else:
                self.leaves.append((kind_of_part(part) or "door", segment))
        elif part == "unsaid":
            self.areas.append(ring)
        elif part != "icon":
            self.rooms.append(Room(category(name), ring, tuple(tuple(h) for h in holes)))

    def word(self, text: str, place: Point) -> None:
        """A text."""
        if any(c.isalpha() for c in text) and len(text) < 40 and part_of(text) is None:
            self.seeds.append(Seed(category(_first_line(text)), (*place, *place)))

    def drawing(self, metres: float | None = None, name: str = "", step: float | None = None) -> Drawing:
        walls, rooms = list(self.walls), list(self.rooms)
        if not walls and not rooms:
            if self.lines:
                walls += self.lines
                walls += [s for ring in self.areas for s in zip(ring, (*ring[1:], ring[0]), strict=True)]
            else:
                rooms += [Room(ROOM, ring) for ring in self.areas]
        rooms = [self._named(room) for room in rooms]
        return Drawing(tuple(walls), tuple(self.leaves), tuple(self.seeds), tuple(rooms), metres, name, step)

    def _named(self, room: Room) -> Room:
        """A room that only a text in it says the use of."""
        if room.category != ROOM or not self.seeds or not np.isfinite(room.outline).all():
            return room
        inside = [
            s for s in self.seeds if room.polygon.is_valid and shapely.intersects_xy(room.polygon, *s.middle)
        ]
        return Room(inside[0].category, room.outline, room.holes) if inside else room


def _part(name: str) -> str:
    """What a name says: a part, "icon", "unsaid", or "" for the use of a room."""
    if name.strip().lower().replace(" ", "") in _UNSAID:
        return "unsaid"
    return part_of(name) or ""


def _first_line(text: str) -> str:
    return text.replace("\\P", "\n").strip().splitlines()[0]


def _thin(ring: Ring) -> bool:
    """Whether an area is a piece of wall, and not an outline."""
    shape = Polygon(ring)
    return bool(shape.is_valid and shape.area < 0.3 * shape.length * shape.length / 16)


def _middle_line(ring: Sequence[Point]) -> Segment:
    """From end to end through the middle of an area."""
    box = shapely.oriented_envelope(LineString([*ring, ring[0]]))
    if box.geom_type != "Polygon":
        points = list(box.coords)
        return points[0][:2], points[-1][:2]
    a, b, c, d = (np.array(p[:2]) for p in box.exterior.coords[:4])
    one, two = ((a + d) / 2, (b + c) / 2), ((a + b) / 2, (c + d) / 2)
    first, last = max((one, two), key=lambda ends: float(np.linalg.norm(ends[0] - ends[1])))
    return (float(first[0]), float(first[1])), (float(last[0]), float(last[1]))
