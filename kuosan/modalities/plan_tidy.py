"""What makes a plan of any numbers whatsoever: the laws that every written plan keeps.

    1. a room is in one piece: of its pieces the largest stays, others go to the neighbour with the longest border;
    2. the building is in one piece, and its outline has no holes: what is enclosed goes to a neighbour;
    3. between two rooms there is one door, or an opening, and never both; on a span one window;
    4. every room can be reached from outside through doors and openings: where one cannot, the door is added that such
       rooms have most often in the data. Shafts need none and are passed through only where there is no other way;
    5. the grid has the lines that are needed, no others, and no cell is wider than the widest that can be said.    (1)

`tidy` does nothing to what keeps them all; so it is its own square.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from kuosan.modalities.plan_layout import (
    NOTHING,
    OPEN,
    Ints,
    Layout,
    Placed,
    Span,
    marked,
    placed,
    rimmed,
)
from kuosan.modalities.plan_words import ROOM, SHAFT

OUTSIDE = "outside"
Likely = Callable[[str, str], float]  # how often a door leads from one to the other, of those that touch


@dataclass(frozen=True)
class Laws:
    """What `tidy` needs to know: doors of this width, cells no wider than `widest`, how likely doors are."""

    door: int
    widest: int
    likely: Likely


def tidy(layout: Layout, laws: Laws, things: Sequence[Placed] | None = None) -> Layout:
    """The layout with the laws of eq. 1; with these doors and windows, else with those of its edges."""
    things = placed(layout, laws.door) if things is None else things
    layout, things = _lines(_whole(layout), things, laws)
    doors = _reachable(layout, _few(layout, things), laws)
    found = marked(layout, doors, laws.door)
    return replace(found, xs=found.xs - found.xs[0], ys=found.ys - found.ys[0])


def is_reachable(layout: Layout, width: int) -> bool:
    """Law 4."""
    return not _missing(layout, _links(layout, placed(layout, width)))


# -- rooms ------------------------------------------------------------------------------------------------


def _whole(layout: Layout) -> Layout:
    """Laws 1 and 2; a plan without any room is one room."""
    sides = np.diff(layout.ys), np.diff(layout.xs)
    rooms = _one_piece(layout.rooms, sides)
    if not rooms.any():
        one = np.ones((1, 1), dtype=np.int64)
        empty = np.zeros((1, 2), dtype=np.int64)
        side = np.array([0, 1])
        return Layout(side, side, one, (layout.categories or (ROOM,))[:1], empty, empty.T.copy())
    pieces, n = ndimage.label(rooms > 0)
    if n > 1:
        rooms = np.where(pieces == _largest(pieces, n, sides), rooms, 0)
    around = ndimage.label(np.pad(rooms == 0, 1, constant_values=True))[0]
    holes = (around != around[0, 0]) & (around > 0)
    rooms = _absorbed(rooms, holes[1:-1, 1:-1], sides) if holes.any() else rooms
    numbers = raster_order(rooms)
    order = np.zeros(len(layout.categories) + 1, dtype=np.int64)
    order[numbers] = np.arange(1, len(numbers) + 1)
    names = tuple(layout.categories[k - 1] for k in numbers.tolist())
    return replace(layout, rooms=order[rooms], categories=names)


def raster_order(rooms: Ints) -> Ints:
    """The numbers of all rooms, as one meets them row by row."""
    numbers, first = np.unique(rooms, return_index=True)
    order = numbers[np.argsort(first, kind="stable")]
    return order[order > 0]


def _one_piece(rooms: Ints, sides: tuple[Ints, Ints]) -> Ints:
    pieces = _pieces(rooms)
    first, where = np.unique(pieces, return_index=True)[1], pieces.ravel()
    names = rooms.ravel()[first]
    if len(set(names[names > 0].tolist())) == int((names > 0).sum()):
        return rooms
    areas = np.bincount(where, np.outer(*sides).ravel())
    best: dict[int, int] = {}
    for piece, name in enumerate(names.tolist()):
        if name and (name not in best or areas[piece] > areas[best[name]]):
            best[name] = piece
    stray = (rooms > 0) & ~np.isin(pieces, list(best.values()))
    return _absorbed(rooms, stray, sides)


def _pieces(rooms: Ints) -> Ints:
    """Cells of one room that touch, under one number, from 0, in the order in which one meets them."""
    r, c = rooms.shape
    number = np.arange(r * c).reshape(r, c)
    right, below = rooms[:, 1:] == rooms[:, :-1], rooms[1:] == rooms[:-1]
    a = np.concatenate([number[:, :-1][right], number[:-1][below]])
    b = np.concatenate([number[:, 1:][right], number[1:][below]])
    graph = coo_array((np.ones(len(a)), (a, b)), shape=(r * c, r * c))
    found = connected_components(graph, directed=False)[1]
    first = np.unique(found, return_index=True)[1]
    order = np.empty(len(first), dtype=np.int64)
    order[np.argsort(first)] = np.arange(len(first))
    return order[found].reshape(r, c)


def _largest(pieces: Ints, count: int, sides: tuple[Ints, Ints]) -> int:
    """The number of the piece with the largest area."""
    return 1 + int(np.argmax(ndimage.sum_labels(np.outer(*sides), pieces, range(1, count + 1))))


def _absorbed(rooms: Ints, stray: NDArray[np.bool_], sides: tuple[Ints, Ints]) -> Ints:
    """Stray cells, piece by piece, as the room that they share the longest border with; outside, where none."""
    kept = np.where(stray, -1, rooms)
    pieces, n = ndimage.label(stray)
    out = np.where(stray, 0, rooms)
    high, wide = sides
    for k in range(1, n + 1):
        piece = pieces == k
        border = np.zeros(int(rooms.max()) + 1, dtype=np.int64)
        for axis, length in ((0, wide[None, :]), (1, high[:, None])):
            for step in (1, -1):
                near = np.roll(np.pad(kept, 1, constant_values=0), step, axis)[1:-1, 1:-1]
                touch = piece & (near > 0)
                np.add.at(border, near[touch], np.broadcast_to(length, kept.shape)[touch])
        if border[1:].any():
            out[piece] = int(border.argmax())
    return out


# -- lines ------------------------------------------------------------------------------------------------


def _lines(layout: Layout, things: Sequence[Placed], laws: Laws) -> tuple[Layout, list[Placed]]:
    """Law 5; doors stay where they stand, unless there is no wall any more."""
    found = layout
    for upright in (True, False):
        found = _merged(found if upright else _turned(found))
        found = _split(found, laws.widest)
    found = _turned(found)
    old = {True: layout.xs, False: layout.ys}
    new = {True: found.xs, False: found.ys}
    again = []
    by_line: dict[tuple[bool, int], list[Span]] = {}
    for span in found.spans:
        by_line.setdefault((span.upright, int(new[span.upright][span.line])), []).append(span)
    for thing in things:
        line = int(old[thing.span.upright][thing.span.line])
        for span in by_line.get((thing.span.upright, line), ()):
            if 2 * span.low <= thing.at <= 2 * span.high:
                again.append(replace(thing, span=span))
                break
    return found, again


def _turned(layout: Layout) -> Layout:
    """Rows as columns."""
    return Layout(
        layout.ys, layout.xs, layout.rooms.T, layout.categories, layout.level.T, layout.upright.T
    )  # fmt: skip


def _merged(layout: Layout) -> Layout:
    """Without columns that are as the one before them, or outside at the rim."""
    rooms, openings = layout.rooms, layout.level == OPEN
    crossed = rimmed(rooms, 0)
    openings = openings & (crossed[:-1] != crossed[1:]) & (crossed[:-1] > 0) & (crossed[1:] > 0)
    inside = np.flatnonzero(rooms.any(0))
    first, last = int(inside[0]), int(inside[-1]) + 1
    keep = [first]
    for j in range(first + 1, last):
        if (rooms[:, j] != rooms[:, j - 1]).any() or (openings[:, j] != openings[:, j - 1]).any():
            keep.append(j)
    lines = [*keep, last]
    return Layout(
        layout.xs[lines], layout.ys, rooms[:, keep], layout.categories, layout.upright[:, lines],
        np.where(openings, OPEN, NOTHING)[:, keep],
    )  # fmt: skip


def _split(layout: Layout, widest: int) -> Layout:
    """Columns wider than that in equal parts, as nearly as whole numbers are."""
    widths = np.diff(layout.xs)
    parts = -(-widths // widest)
    if (parts == 1).all():
        return layout
    xs, of = [int(layout.xs[0])], []
    for j, (w, n) in enumerate(zip(widths.tolist(), parts.tolist(), strict=True)):
        xs += [int(layout.xs[j]) + w * (k + 1) // n for k in range(n)]
        of += [j] * n
    upright = np.zeros((layout.rooms.shape[0], len(xs)), dtype=np.int64)
    upright[:, np.concatenate([[0], np.cumsum(parts)])] = layout.upright
    return Layout(
        np.array(xs), layout.ys, layout.rooms[:, of], layout.categories, upright, layout.level[:, of]
    )


# -- doors ------------------------------------------------------------------------------------------------


def _few(layout: Layout, things: Sequence[Placed]) -> list[Placed]:
    """Law 3: of the doors between two rooms that on the longest span, of windows one on each span without a door, and
    neither where the two are open to each other."""
    doors: dict[tuple[int, int], Placed] = {}
    windows: dict[Span, Placed] = {}
    joined = {span.pair for span in layout.spans if layout.is_open(span)}
    for thing in things:
        if thing.span.pair in joined:
            continue
        if thing.kind == "window":
            windows.setdefault(thing.span, thing)
        elif thing.span.pair not in doors or thing.span.length > doors[thing.span.pair].span.length:
            doors[thing.span.pair] = thing
    taken = {thing.span for thing in doors.values()}
    return [*doors.values(), *(w for span, w in windows.items() if span not in taken)]


def _links(layout: Layout, things: list[Placed]) -> set[tuple[int, int]]:
    """Pairs that one can walk between; 0 is outside."""
    found = {thing.span.pair for thing in things if thing.kind == "door"}
    return found | {span.pair for span in layout.spans if layout.is_open(span)}


def _reached(links: set[tuple[int, int]]) -> set[int]:
    reached, fresh = {0}, True
    while fresh:
        fresh = False
        for a, b in links:
            if (a in reached) != (b in reached):
                reached |= {a, b}
                fresh = True
    return reached


def _missing(layout: Layout, links: set[tuple[int, int]]) -> set[int]:
    """Rooms, other than shafts, that nobody gets into."""
    reached = _reached(links)
    return {k for k, name in enumerate(layout.categories, 1) if k not in reached and name != SHAFT}


def _reachable(layout: Layout, things: list[Placed], laws: Laws) -> list[Placed]:
    """Law 4."""
    longest: dict[tuple[int, int], Span] = {}
    for span in layout.spans:
        if span.pair not in longest or span.length > longest[span.pair].length:
            longest[span.pair] = span
    names = (OUTSIDE, *layout.categories)
    out = list(things)
    links = _links(layout, out)
    while _missing(layout, links):
        reached = _reached(links)
        near = [
            (pair, span) for pair, span in longest.items() if (pair[0] in reached) != (pair[1] in reached)
        ]
        proper = [n for n in near if SHAFT not in (names[n[0][0]], names[n[0][1]])] or near
        to = [n for n in proper if n[0][0] != 0] or proper  # only the first way in is from outside
        pair, span = max(
            to, key=lambda n: (laws.likely(names[n[0][0]], names[n[0][1]]), n[1].length, -n[0][0], -n[0][1])
        )
        out = [thing for thing in out if thing.span != span or thing.kind == "door"]
        out.append(Placed("door", span, 2 * span.low + min(laws.door, span.length)))
        links.add(pair)
    return out


def links(layout: Layout, width: int) -> set[tuple[int, int]]:
    """Pairs of rooms, by number, that a door or an opening joins; 0 is outside."""
    return _links(layout, placed(layout, width))


def flaws(layout: Layout, width: int) -> set[str]:
    """What `tidy` would have to mend: "pieces" of rooms, a "detached" part, a "hole", rooms that are "unreachable"."""
    rooms, found = layout.rooms, set()
    pieces = _pieces(rooms)
    names = rooms.ravel()[np.unique(pieces, return_index=True)[1]]
    if len(set(names[names > 0].tolist())) < int((names > 0).sum()):
        found.add("pieces")
    if not rooms.any() or ndimage.label(rooms > 0)[1] > 1:
        found.add("detached")
    if ndimage.label(np.pad(rooms == 0, 1, constant_values=True))[1] > 1:
        found.add("hole")
    there = set(np.unique(rooms).tolist())
    if _missing(layout, links(layout, width)) & there:
        found.add("unreachable")
    return found
