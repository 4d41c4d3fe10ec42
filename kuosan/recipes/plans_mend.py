"""What a plan lacks of a brief, and mending it as far as it goes:

rooms change places (by name) so that those touch that are to be joined, and doors are cut between them,
a room of a kind that nobody asked for becomes one that is missing,
rows and columns grow and shrink together until the area is right.                                   (1)
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import shapely

from kuosan.evaluation.plan.graphs import Graph, matching
from kuosan.modalities.plan_form import Form
from kuosan.modalities.plan_layout import Ints, Layout, Placed, placed
from kuosan.modalities.plan_tidy import links, tidy
from kuosan.modalities.plan_words import SHAFT

TRIALS = 20_000  # of seating rooms
NEAR = 0.03  # of an area: what counts as met


@dataclass(frozen=True)
class Brief:
    """Wishes as a run takes them; `told` is what became of them."""

    counts: dict[str, int]
    graph: Graph
    area: float | None
    outline: shapely.Geometry | None
    where: dict[str, str]
    told: dict[str, Any] = field(default_factory=dict)


def missing(form: Form, brief: Brief, layout: Layout) -> int:
    """How many wishes a plan does not keep: rooms too few or too many, doors that are not there, and the area."""
    have = Counter(layout.categories)
    rooms = sum(abs(have[name] - n) for name, n in brief.counts.items())
    doors = len(brief.graph.edges) - matching(brief.graph, graph_of(form, layout, False))[0]
    wrong = False
    if brief.area is not None and form.step is not None:
        area = float(layout.areas()[1:].sum()) * form.step**2
        wrong = abs(area / brief.area - 1) > NEAR
    return rooms + doors + wrong


def graph_of(form: Form, layout: Layout, touching: bool) -> Graph:
    """Rooms that are joined, or that could be."""
    pairs = {span.pair for span in layout.spans} if touching else links(layout, form.door)
    return Graph(layout.categories, frozenset((a - 1, b - 1) for a, b in pairs if a))


def mended(form: Form, brief: Brief, layout: Layout) -> Layout:
    """Eq. 1, as far as it goes."""
    layout, places = _seated(brief, layout, form)
    layout = _renamed(brief, layout, form, set(places.values()))
    if places:
        joined = links(layout, form.door)
        things = placed(layout, form.door)
        for a, b in sorted(brief.graph.edges):
            if a not in places or b not in places:
                continue
            pair = tuple(sorted((places[a] + 1, places[b] + 1)))
            those = [span for span in layout.spans if span.pair == pair]
            if those and pair not in joined:
                span = max(those, key=lambda s: s.length)
                things.append(Placed("door", span, span.low + span.high))
        layout = tidy(layout, form.laws, things)
    if brief.area is not None and form.step is not None and brief.outline is None:
        layout = _sized(form, layout, brief.area / form.step**2)
    return layout


def _seated(brief: Brief, layout: Layout, form: Form) -> tuple[Layout, dict[int, int]]:
    """The plan with names given so that rooms touch that are to be joined, and which room (from 0) each of the graph
    is; as it is drawn, where that does."""
    asked, touching = brief.graph, graph_of(form, layout, True)
    if not asked.edges:
        return layout, {}
    found, places = matching(asked, touching)
    if found == len(asked.edges) and len(places) == len(asked.rooms):
        return layout, places
    any_asked = Graph(("",) * len(asked.rooms), asked.edges)
    anywhere = Graph(tuple(SHAFT if name == SHAFT else "" for name in touching.rooms), touching.edges)
    more, seats = matching(any_asked, anywhere, TRIALS)
    if more <= found and len(places) == len(asked.rooms):
        return layout, places
    names = list(layout.categories)
    for node, seat in seats.items():
        names[seat] = asked.rooms[node]
    spare = Counter(layout.categories) - Counter(names[seat] for seat in seats.values())
    others = [k for k in range(len(names)) if k not in seats.values()]
    moved = []
    for k in others:  # the rest keep their names as far as these are not taken
        if spare[names[k]]:
            spare[names[k]] -= 1
        else:
            moved.append(k)
    for k, name in zip(moved, spare.elements(), strict=False):
        names[k] = name
    kept = tidy(replace(layout, categories=tuple(names)), form.laws, placed(layout, form.door))
    return kept, seats


def _renamed(brief: Brief, layout: Layout, form: Form, fixed: set[int]) -> Layout:
    """Rooms that nobody asked for, and that are not ``fixed``, as those that are missing; the most numerous first."""
    names, areas = list(layout.categories), layout.areas()
    have = Counter(names)
    for name, n in sorted(brief.counts.items()):
        for _ in range(n - have[name]):
            spare = [
                k for k, other in enumerate(names)
                if k not in fixed and other != SHAFT and have[other] > brief.counts.get(other, 0)
            ]  # fmt: skip
            if not spare:
                break
            k = max(spare, key=lambda k: (have[names[k]], int(areas[k + 1])))
            have[names[k]] -= 1
            have[name] += 1
            names[k] = name
    return tidy(replace(layout, categories=tuple(names)), form.laws, placed(layout, form.door))


def _sized(form: Form, layout: Layout, area: float) -> Layout:
    """All rows and columns larger or smaller by one factor, and then by single steps, until the area is right."""
    shares = np.diff(layout.xs), np.diff(layout.ys)
    factor = float(np.sqrt(area / layout.areas()[1:].sum()))
    wide, high = (np.maximum(1, np.round(s * factor)).astype(np.int64) for s in shares)

    def size(w: Ints, h: Ints) -> float:
        return float(((layout.rooms > 0) * np.outer(h, w)).sum())

    for _ in range(200):
        trials = [(wide, high)]
        for k, side in enumerate((wide, high)):
            for j in range(len(side)):
                for step in (1, -1):
                    other = side.copy()
                    other[j] += step
                    if other[j] >= 1:
                        trials.append((other, high) if k == 0 else (wide, other))
        best = min(trials, key=lambda pair: abs(size(*pair) - area))
        if best is trials[0]:
            break
        wide, high = best
    xs, ys = (np.concatenate([[0], np.cumsum(s)]) for s in (wide, high))
    found = tidy(replace(layout, xs=xs, ys=ys), form.laws)
    return found if found.size[0] <= form.rows and found.size[1] <= form.columns else layout
