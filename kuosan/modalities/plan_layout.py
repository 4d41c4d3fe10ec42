"""A plan on its own grid: the lines are those of its walls, a cell belongs to one room, an edge may hold a door.

    xs, ys      whole numbers, where the lines are; cell (i, j) lies between ys[i], ys[i+1] and xs[j], xs[j+1]
    rooms       (R, C) the number of the room that a cell belongs to, from 1; 0 is outside
    upright     (R, C+1) what stands in the edge on the line xs[j] along row i
    level       (R+1, C) what stands in the edge on the line ys[i] along column j                        (1)

A wall stands in every edge between two rooms and around them: outlines are closed, rooms do not overlap and walls are
parallel to the axes whatever the numbers are. A *span* is the longest straight run of edges between the same two. A
door's place is told by its edge, at whose begin, middle or end it is; it never leaves its span.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry import box

from kuosan.modalities.plan_raw import Kind, Opening, Plan, Room

Ints = NDArray[np.int64]
NOTHING, BEGIN, MIDDLE, END, WINDOW, OPEN = range(6)
DOORS = (MIDDLE, BEGIN, END)  # of places that are the same the first is written
WINDOW_SHARE = 0.6  # of its span


@dataclass(frozen=True)
class Span:
    """Edges `first` to `last` (excluded) on a line, between the rooms of `pair`, the smaller number first."""

    upright: bool
    line: int
    first: int
    last: int
    pair: tuple[int, int]
    low: int
    high: int

    @property
    def length(self) -> int:
        return self.high - self.low

    def door(self, low: int, high: int, place: int, width: int) -> tuple[int, int]:
        """Twice the middle of a door on the edge from ``low`` to ``high``, and its width."""
        w = min(width, self.length)
        at = {BEGIN: 2 * low + w, END: 2 * high - w}.get(place, low + high)
        return min(max(at, 2 * self.low + w), 2 * self.high - w), w


@dataclass(frozen=True, eq=False)
class Layout:
    """Eq. 1; `categories` are those of the rooms 1, 2, …"""

    xs: Ints
    ys: Ints
    rooms: Ints
    categories: tuple[str, ...]
    upright: Ints
    level: Ints

    @property
    def size(self) -> tuple[int, int]:
        return int(self.rooms.shape[0]), int(self.rooms.shape[1])

    @cached_property
    def edges(self) -> dict[bool, list[list[int]]]:
        """What stands in the edges of upright and of level lines, line by line."""
        return {True: self.upright.T.tolist(), False: self.level.tolist()}

    @cached_property
    def along(self) -> dict[bool, list[int]]:
        """Where the edges of upright and of level lines begin and end."""
        return {True: self.ys.tolist(), False: self.xs.tolist()}

    def marks(self, span: Span) -> list[int]:
        """What stands in the edges of a span."""
        return self.edges[span.upright][span.line][span.first : span.last]

    def is_open(self, span: Span) -> bool:
        """Whether there is no wall in a part of it."""
        return OPEN in self.marks(span)

    @cached_property
    def spans(self) -> tuple[Span, ...]:
        """All of them, upright ones first, line by line."""
        found = []
        for upright in (True, False):
            grid = self.rooms if upright else self.rooms.T
            padded = rimmed(grid, 1)
            one, two = padded[:, :-1].T, padded[:, 1:].T
            low, high = np.minimum(one, two), np.maximum(one, two)
            code = np.where(low == high, -1, low * (len(self.categories) + 1) + high)
            begins = np.ones(code.shape, dtype=bool)
            begins[:, 1:] = code[:, 1:] != code[:, :-1]
            lines, starts = (v.tolist() for v in np.nonzero(begins))
            along = (self.ys if upright else self.xs).tolist()
            kinds, n = code[lines, starts].tolist(), code.shape[1]
            stops = [s if s else n for s in starts[1:]] + [n]
            for line, a, b, kind in zip(lines, starts, stops, kinds, strict=True):
                if kind >= 0:
                    pair = divmod(kind, len(self.categories) + 1)
                    found.append(Span(upright, line, a, b, pair, along[a], along[b]))
        return tuple(found)

    def holding(self, upright: Ints, level: Ints) -> Layout:
        """The same rooms with other things in the edges."""
        other = Layout(self.xs, self.ys, self.rooms, self.categories, upright, level)
        other.__dict__["spans"] = self.spans
        return other

    def areas(self) -> Ints:
        """Of outside, and of every room."""
        cells = np.outer(np.diff(self.ys), np.diff(self.xs))
        return np.bincount(self.rooms.ravel(), cells.ravel(), len(self.categories) + 1).astype(np.int64)


@dataclass(frozen=True)
class Placed:
    """A door or a window in a span, by twice its middle."""

    kind: Kind
    span: Span
    at: int


def rimmed(values: Ints, axis: int) -> Ints:
    """With a line of zeros before and behind."""
    none = np.zeros_like(values[:, :1] if axis else values[:1])
    return np.concatenate([none, values, none], axis)


def placed(layout: Layout, width: int) -> list[Placed]:
    """Doors and windows where they stand; windows are in the middle of their spans."""
    found = []
    for span in layout.spans:
        along = layout.along[span.upright]
        for k, mark in enumerate(layout.marks(span), span.first):
            if not mark:
                continue
            if mark in DOORS or (mark == OPEN and not span.pair[0]):  # what is open to the outside is a door
                at, _ = span.door(along[k], along[k + 1], mark, width)
                found.append(Placed("door", span, at))
            elif mark == WINDOW:
                found.append(Placed("window", span, span.low + span.high))
    return found


def marked(layout: Layout, things: Sequence[Placed], width: int) -> Layout:
    """The layout with these doors and windows, each on the first edge and place that come nearest to where it stands;
    its openings stay."""
    upright, level = (np.where(e == OPEN, OPEN, NOTHING) for e in (layout.upright, layout.level))
    for thing in things:
        span = thing.span
        row = upright[:, span.line] if span.upright else level[span.line]
        along = layout.along[span.upright]
        edges = [(k, along[k], along[k + 1]) for k in range(span.first, span.last)]
        if thing.kind == "window":
            k = next(k for k, low, high in edges if 2 * high >= span.low + span.high)
            row[k] = WINDOW
            continue
        choices = [
            (abs(span.door(low, high, place, width)[0] - thing.at), k, n)
            for k, low, high in edges for n, place in enumerate(DOORS)
        ]  # fmt: skip
        _, k, n = min(choices)
        row[k] = DOORS[n]
    return layout.holding(upright, level)


def to_plan(layout: Layout, width: int, unit: float = 1.0, metres: float | None = None) -> Plan:
    """The plan of a layout, doors of this width, in steps of ``unit``."""
    rooms = []
    for number, category in enumerate(layout.categories, 1):
        cells = [
            box(layout.xs[j], layout.ys[i], layout.xs[j + 1], layout.ys[i + 1])
            for i, j in np.argwhere(layout.rooms == number).tolist()
        ]
        rooms.append(_scaled(Room.of(category, shapely.union_all(cells)), unit))
    openings = []
    for span in layout.spans:
        row, along = layout.edges[span.upright][span.line], layout.along[span.upright]
        k = span.first
        while k < span.last:
            stop = k
            while stop < span.last and row[stop] == OPEN:
                stop += 1
            if stop > k:
                openings.append(_opening("opening", layout, span, float(along[k]), float(along[stop]), unit))
            k = max(stop, k + 1)
    for thing in placed(layout, width):
        span = thing.span
        w = min(width, span.length) if thing.kind == "door" else WINDOW_SHARE * span.length
        openings.append(_opening(thing.kind, layout, span, (thing.at - w) / 2, (thing.at + w) / 2, unit))
    return Plan(tuple(rooms), tuple(openings), metres, step=unit)


def _opening(kind: Kind, layout: Layout, span: Span, low: float, high: float, unit: float) -> Opening:
    at = float((layout.xs if span.upright else layout.ys)[span.line])
    a, b = ((at, low), (at, high)) if span.upright else ((low, at), (high, at))
    return Opening(kind, _times(a, unit), _times(b, unit))


def _times(point: tuple[float, float], unit: float) -> tuple[float, float]:
    return round(point[0] * unit, 6), round(point[1] * unit, 6)


def _scaled(room: Room, unit: float) -> Room:
    return Room(
        room.category,
        tuple(_times(p, unit) for p in room.outline),
        tuple(tuple(_times(p, unit) for p in hole) for hole in room.holes),
    )


def of_plan(plan: Plan, unit: float, width: int) -> tuple[Layout, list[Placed]]:
    """The layout of a plan in steps of ``unit`` from its upper left corner, without rooms too small for a
    cell; and its doors and windows, where they stand."""
    x0, y0, _, _ = plan.bounds
    origin = np.array([x0, y0])
    points = np.array(
        [p for room in plan.rooms for ring in (room.outline, *room.holes) for p in ring]
        + [p for o in plan.openings if o.kind == "opening" for p in (o.a, o.b)]
    )
    steps = np.round((points - origin) / unit).astype(np.int64)
    xs, ys = (np.unique(steps[:, axis]) for axis in (0, 1))
    xs, ys = (v if len(v) > 1 else np.array([v[0], v[0] + 1]) for v in (xs, ys))
    mx, my = ((v[:-1] + v[1:]) / 2 * unit for v in (xs, ys))
    gx, gy = np.meshgrid(mx + x0, my + y0)
    rooms = np.zeros(gx.shape, dtype=np.int64)
    kept: list[str] = []
    for room in plan.rooms:
        inside = shapely.contains_xy(room.polygon, gx.ravel(), gy.ravel()).reshape(gx.shape) & (rooms == 0)
        if inside.any():
            kept.append(room.category)
            rooms[inside] = len(kept)
    empty = Layout(xs, ys, rooms, tuple(kept), np.zeros((len(ys) - 1, len(xs)), dtype=np.int64),
                   np.zeros((len(ys), len(xs) - 1), dtype=np.int64))  # fmt: skip
    return _with_openings(empty, plan, origin, unit, width)


def _with_openings(
    layout: Layout, plan: Plan, origin: NDArray[np.float64], unit: float, width: int
) -> tuple[Layout, list[Placed]]:
    """Every opening of a plan in the span that is nearest to it, if one is near."""
    all_spans = layout.spans
    things: list[Placed] = []
    upright, level = layout.upright.copy(), layout.level.copy()
    reach = max(2.0, 0.5 * width)
    for opening in plan.openings:
        ends = (np.array([opening.a, opening.b]) - origin) / unit
        along = int(abs(ends[0, 1] - ends[1, 1]) > abs(ends[0, 0] - ends[1, 0]))  # 1: upright
        line, (low, high) = float(ends[:, 1 - along].mean()), sorted(ends[:, along].tolist())
        near: list[tuple[float, bool, int, Span]] = []
        for span in all_spans:
            if span.upright != bool(along):
                continue
            off = abs(float((layout.xs if along else layout.ys)[span.line]) - line)
            overlap = min(high, span.high) - max(low, span.low)
            if off <= reach and overlap > 0:
                near.append((-round(overlap, 6) + off, span.pair[0] == 0, len(near), span))
        if not near:
            continue
        if opening.kind == "opening":
            for _, _, _, span in near:
                if abs(float((layout.xs if along else layout.ys)[span.line]) - line) > 0.5:
                    continue
                row = upright[:, span.line] if along else level[span.line]
                at = layout.ys if along else layout.xs
                for k in range(span.first, span.last):
                    if low - 0.5 <= at[k] and at[k + 1] <= high + 0.5:
                        row[k] = OPEN
            continue
        things.append(Placed(opening.kind, min(near)[3], round(low + high)))
    return layout.holding(upright, level), things
