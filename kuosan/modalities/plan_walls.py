"""Rooms out of walls: lines that are drawn become closed outlines, and words that stand in them their names.

Drawn walls miss each other by a little. With a tolerance τ (a share of the drawing's longer side)

    1. walls nearly parallel to an axis become so, and their coordinates are snapped to common lines within τ,
    2. ends that reach no other wall within τ are drawn out to it,
    3. the lines are cut where they cross and polygonised (shapely); what is thinner than τ is no room.        (1)

A doorway is a gap in many drawings: doors and windows close it. A room that holds several words (a kitchen in a living
room) is divided between them by straight cuts, where no wall is drawn: openings. One that holds none is "room" where a
door leads to it, and a "shaft" otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
from shapely.geometry import LineString, MultiLineString, Polygon, box

from kuosan.modalities.base import Unreadable
from kuosan.modalities.plan_raw import Kind, Opening, Plan, Point, Room
from kuosan.modalities.plan_words import ENTRANCE, ROOM, SHAFT

TOLERANCE = 0.015  # of the longer side
THIN = 0.02
THICK = 0.03  # walls between rooms that are drawn apart
SHORTEST, LONGEST = 1.0, 1000.0  # metres
MOST_LINES = 20_000
Segment = tuple[Point, Point]
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Seed:
    """A word and where it stands."""

    category: str
    place: Box

    @property
    def middle(self) -> Point:
        return (self.place[0] + self.place[2]) / 2, (self.place[1] + self.place[3]) / 2


@dataclass(frozen=True)
class Drawing:
    """Lines and words as a file has them. `leaves` are doors or windows as they are drawn; `rooms` are outlines that
    the file knows, before any wall is looked at. What Kuosan wrote itself has a `step`: nothing of it is mended."""

    walls: tuple[Segment, ...] = ()
    leaves: tuple[tuple[Kind, Segment], ...] = ()
    seeds: tuple[Seed, ...] = ()
    rooms: tuple[Room, ...] = ()
    metres: float | None = None
    name: str = ""
    step: float | None = None

    def plan(self) -> Plan:
        """The plan of a drawing.  Raises `Unreadable` where no room is closed."""
        rings = [
            *self.walls,
            *(s for _, s in self.leaves),
            *(ring for r in self.rooms for ring in (r.outline, *r.holes)),
        ]
        numbers = [c for ring in rings for point in ring for c in point]
        numbers += [c for seed in self.seeds for c in seed.place]
        if not np.isfinite(numbers).all():
            raise Unreadable("it has coordinates that are no numbers")
        if self.metres is not None and self.step is None and numbers:
            self._check_size(numbers)
        if self.rooms:
            return _of_rooms(self)
        if len(self.walls) + len(self.rooms) > MOST_LINES:
            raise Unreadable(f"it has more than {MOST_LINES:,} lines, and a plan of rooms has far fewer")
        if not self.walls:
            raise Unreadable("it has no walls and no rooms")
        return _of_walls(self)

    def _check_size(self, numbers: Sequence[float]) -> None:
        """Raises `Unreadable` for a plan that is no building in the unit that its file names."""
        points = np.array(numbers).reshape(-1, 2)
        long = float((points.max(0) - points.min(0)).max()) * float(self.metres or 1.0)
        if not SHORTEST <= long <= LONGEST:
            raise Unreadable(f"it would be {long:,.3g} m long in the unit that it names: mend the unit")


def _of_rooms(drawing: Drawing) -> Plan:
    """Outlines as they are: those that cross themselves are mended, of two that overlap the smaller has its way, and
    what the thickness of walls keeps apart comes together."""
    taken = Polygon()
    rooms: list[Room] = []
    order = sorted(drawing.rooms, key=lambda room: room.polygon.area)
    for room in order if drawing.step else _without_thickness(order):
        shape = shapely.make_valid(room.polygon) if not room.polygon.is_valid else room.polygon
        parts = [p for p in shapely.get_parts(shape.difference(taken)) if p.geom_type == "Polygon"]
        if not parts:
            continue
        largest = max(parts, key=lambda p: p.area)
        if largest.area <= 1e-9 * max(1.0, shape.envelope.area):
            continue
        rooms.append(Room.of(room.category, largest))
        taken = taken.union(largest)
    if not rooms:
        raise Unreadable("none of its rooms has an area")
    openings = tuple(Opening(kind, a, b) for kind, (a, b) in drawing.leaves if a != b)
    return Plan(tuple(rooms), openings, drawing.metres, drawing.name, drawing.step)


def _without_thickness(rooms: Sequence[Room]) -> list[Room]:
    """Rooms whose coordinates are the same where they nearly are."""
    rings = [np.array(ring) for room in rooms for ring in (room.outline, *room.holes)]
    points = np.concatenate(rings)
    reach = THICK * float((points.max(0) - points.min(0)).max())
    weights = np.ones(len(points))
    snapped = np.stack([_clustered(points[:, axis], weights, reach) for axis in (0, 1)], 1)
    parts = iter(np.split(snapped, np.cumsum([len(r) for r in rings])[:-1]))
    found = []
    for room in rooms:
        new = [tuple((float(x), float(y)) for x, y in next(parts)) for _ in (room.outline, *room.holes)]
        if len(set(new[0])) > 2:
            found.append(Room(room.category, new[0], tuple(hole for hole in new[1:] if len(set(hole)) > 2)))
    return found


def _of_walls(drawing: Drawing) -> Plan:
    """Eq. 1."""
    leaves = [(kind, s) for kind, s in drawing.leaves if s[0] != s[1]]
    lines = [s for s in (*drawing.walls, *(s for _, s in leaves)) if s[0] != s[1]]
    if not lines:
        raise Unreadable("all of its walls have length zero")
    ends = np.array(lines, dtype=np.float64)
    size = float((ends.reshape(-1, 2).max(0) - ends.reshape(-1, 2).min(0)).max())
    reach = TOLERANCE * size
    snapped = _joined(_snapped(ends, reach), reach)
    noded = shapely.union_all(MultiLineString([s for s in snapped.tolist() if s[0] != s[1]]))
    faces = shapely.get_parts(shapely.polygonize(shapely.get_parts(noded)))
    faces = faces[~shapely.is_empty(shapely.buffer(faces, -THIN * size / 2, quad_segs=1))]
    if not len(faces):
        raise Unreadable("its walls enclose no room: they are open, or no walls at all")
    rooms, openings = _named(faces, drawing.seeds, leaves, reach)
    return Plan(tuple(rooms), tuple(openings), drawing.metres, drawing.name)


def _snapped(ends: np.ndarray, reach: float) -> np.ndarray:
    """Walls (n, 2, 2) parallel to the axes where they nearly are, on lines that nearly coincide."""
    ends = ends.copy()
    run = np.abs(ends[:, 0] - ends[:, 1])
    for axis in (0, 1):
        flat = (run[:, axis] <= reach) & (run[:, 1 - axis] > run[:, axis])
        ends[flat, :, axis] = ends[flat, :, axis].mean(1, keepdims=True)
        weights = np.where(flat, run[:, 1 - axis], 0.0)
        ends[..., axis] = _clustered(ends[..., axis], np.stack([weights, weights], 1), reach)
    return ends


def _clustered(values: np.ndarray, weights: np.ndarray, reach: float) -> np.ndarray:
    """Numbers, those within ``reach`` of a common mean made equal to it; heavy ones decide where."""
    flat, mass = values.ravel(), weights.ravel() + 1e-6
    order = np.argsort(flat, kind="stable").tolist()
    numbers, masses, out = flat.tolist(), mass.tolist(), flat.copy()
    group: list[int] = []
    total = weight = 0.0
    for k in [*order, -1]:
        if k >= 0 and (
            not group or (numbers[k] - numbers[group[0]] <= reach and numbers[k] - total / weight <= reach)
        ):
            group.append(k)
        else:
            out[group] = round(total / weight, 6)
            group, total, weight = [k], 0.0, 0.0
        total, weight = total + masses[k] * numbers[k], weight + masses[k]
    return out.reshape(values.shape)


def _joined(ends: np.ndarray, reach: float) -> np.ndarray:
    """Walls whose loose ends are drawn out to the nearest other wall, if one is near."""
    lines = shapely.linestrings(ends)
    points = shapely.points(ends.reshape(-1, 2))
    which, other = shapely.STRtree(lines).query(points, predicate="dwithin", distance=1.5 * reach)
    mine = which // 2 == other
    which, other = which[~mine], other[~mine]
    apart = shapely.distance(points[which], lines[other])
    out = ends.copy()
    for n in np.setdiff1d(which, which[apart == 0.0]).tolist():
        i, side = divmod(n, 2)
        near = other[which == n][np.argsort(apart[which == n], kind="stable")]
        direction = ends[i, side] - ends[i, 1 - side]
        direction = direction / max(1e-12, float(np.linalg.norm(direction)))
        ray = LineString([ends[i, side] - 1e-9 * direction, ends[i, side] + 2 * reach * direction])
        hits = [ray.intersection(lines[j]) for j in near]
        hit = next((h for h in hits if h.geom_type == "Point"), None)
        nearest = lines[near[0]]
        out[i, side] = (hit or nearest.interpolate(nearest.project(points[n]))).coords[0]
    return out


def _named(
    faces: Any, seeds: Sequence[Seed], leaves: Sequence[tuple[Kind, Segment]], reach: float
) -> tuple[list[Room], list[Opening]]:
    """Faces with the words that stand in them."""
    inside: list[list[Seed]] = [[] for _ in faces]
    for seed in seeds:
        here = np.flatnonzero(shapely.intersects_xy(faces, *seed.middle)).tolist()
        if not here:  # a word across a wall belongs where most of it is
            shares = [(float(face.intersection(box(*seed.place)).area), -i) for i, face in enumerate(faces)]
            here = [-max(shares)[1]] if max(shares)[0] > 0 else []
        if here:
            inside[here[0]].append(seed)
    middles = shapely.points(np.array([s for _, s in leaves]).reshape(-1, 2, 2).mean(1))
    leads = np.zeros(len(faces), dtype=bool)
    if len(leaves):
        leads = (shapely.distance(shapely.boundary(faces)[:, None], middles[None]) <= 2 * reach).any(1)
    rooms: list[Room] = []
    openings: list[Opening] = []
    for face, words, led in zip(faces, inside, leads.tolist(), strict=True):
        if not words:
            rooms.append(Room.of(ROOM if led else SHAFT, face))
            continue
        parts, cuts = _divided(face, _distinct(words))
        rooms += [Room.of(category, part) for category, part in parts]
        openings += [Opening("opening", a, b) for a, b in cuts]
    if not leaves:
        return rooms, openings
    outside = shapely.distance(shapely.union_all(faces).boundary, middles) <= reach
    entry = shapely.union_all([r.polygon for r in rooms if r.category == ENTRANCE])
    enters = np.full(len(leaves), True) if entry.is_empty else shapely.distance(entry, middles) <= 2 * reach
    for (kind, (a, b)), out, enter in zip(leaves, outside.tolist(), enters.tolist(), strict=True):
        # a door in an outer wall is a window, unless it is where one enters
        openings.append(Opening("window" if kind == "door" and out and not enter else kind, a, b))
    return rooms, openings


def _distinct(words: Sequence[Seed]) -> list[Seed]:
    """One seed of each word: the same word twice in one room is said once."""
    found: dict[str, Seed] = {}
    for seed in words:
        found.setdefault(seed.category, seed)
    return list(found.values())


def _divided(face: Polygon, seeds: list[Seed]) -> tuple[list[tuple[str, Polygon]], list[Segment]]:
    """A room between the words that it holds, by straight cuts across the widest gap between them; the cuts."""
    if len(seeds) == 1:
        return [(seeds[0].category, face)], []
    best: tuple[float, int, float, list[Seed], list[Seed]] | None = None
    for axis in (0, 1):
        order = sorted(seeds, key=lambda s: s.middle[axis])
        for k in range(1, len(order)):
            low, high = order[k - 1].middle[axis], order[k].middle[axis]
            corners = {p[axis] for p in face.exterior.coords if low < p[axis] < high}
            middle = (low + high) / 2
            at = min(corners, key=lambda c: abs(c - middle)) if corners else middle
            gap = high - low
            if best is None or gap > best[0]:
                best = (gap, axis, at, order[:k], order[k:])
    assert best is not None
    gap, axis, at, before, after = best
    x0, y0, x1, y1 = face.bounds
    first = box(x0 - 1, y0 - 1, at, y1 + 1) if axis == 0 else box(x0 - 1, y0 - 1, x1 + 1, at)
    halves = [_largest(face.intersection(first)), None]
    if halves[0] is not None:
        halves[1] = _largest(face.difference(halves[0]))
    if gap <= 0 or halves[0] is None or halves[1] is None:
        return [(seeds[0].category, face)], []
    rest = face.difference(shapely.union_all(halves))
    if rest.area > 1e-6 * face.area:  # cuts that would leave pieces over are none
        return [(seeds[0].category, face)], []
    cut = halves[0].intersection(halves[1])
    cuts = [(p.coords[0][:2], p.coords[-1][:2]) for p in shapely.get_parts(shapely.line_merge(cut))
            if p.geom_type == "LineString"]  # fmt: skip
    parts: list[tuple[str, Polygon]] = []
    for half, words in zip(halves, (before, after), strict=True):
        assert half is not None
        more, also = _divided(half, words)
        parts += more
        cuts += also
    return parts, cuts


def _largest(shape: shapely.Geometry) -> Polygon | None:
    parts = [p for p in shapely.get_parts(shape) if p.geom_type == "Polygon" and p.area > 0]
    return max(parts, key=lambda p: p.area) if parts else None
