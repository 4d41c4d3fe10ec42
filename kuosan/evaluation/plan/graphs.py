"""Which rooms of a plan are joined, as a graph, and how many changes make one graph of another.

Nodes are rooms with their categories (one of them may be the outside), edges are doors and openings. With one change a
room or an edge is added or taken away; a room never changes what it is for. Of two graphs that share c edges under a
matching of m rooms, each to one of its category,

    d(G, H) = |G| + |H| - 2 m + |E(G)| + |E(H)| - 2 c,    the least over all matchings                   (1)

As another matched pair never costs anything, m is the most there can be, and c the most common edges: found exactly, by
branch and bound. Counting categories, and edges by the categories at their ends, gives a distance that is never more,

    d(G, H) ≥ Σ |rooms_G - rooms_H| + Σ |edges_G - edges_H|                                             (2)

and often as much, so that few pairs have to be searched for the nearest.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np


@dataclass(frozen=True)
class Graph:
    """Categories of rooms, and pairs of rooms (by place, the smaller first) that are joined."""

    rooms: tuple[str, ...]
    edges: frozenset[tuple[int, int]]

    @cached_property
    def near(self) -> tuple[frozenset[int], ...]:
        """The rooms that each is joined to."""
        found: list[set[int]] = [set() for _ in self.rooms]
        for a, b in self.edges:
            found[a].add(b)
            found[b].add(a)
        return tuple(frozenset(s) for s in found)

    @cached_property
    def counts(self) -> Counter[tuple[str, ...]]:
        """Rooms by category, and edges by both categories."""
        ends = [tuple(sorted((self.rooms[a], self.rooms[b]))) for a, b in self.edges]
        return Counter([*((name,) for name in self.rooms), *ends])

    @property
    def size(self) -> int:
        return len(self.rooms) + len(self.edges)


def least_distance(a: Graph, b: Graph) -> int:
    """Eq. 2."""
    return sum(((a.counts - b.counts) + (b.counts - a.counts)).values())


def edit_distance(a: Graph, b: Graph) -> int:
    """Eq. 1, exactly."""
    rooms = sum((Counter(a.rooms) & Counter(b.rooms)).values())
    return a.size + b.size - 2 * rooms - 2 * matching(a, b)[0]


def matching(a: Graph, b: Graph, most: float = float("inf")) -> tuple[int, dict[int, int]]:
    """The most edges that a matching of rooms, each to one of its category, maps to edges; and such a matching. With a
    number of trials at ``most``, the best that they find."""
    roof = sum(min(n, b.counts[key]) for key, n in a.counts.items() if len(key) == 2)
    free: dict[str, list[int]] = {}
    for k, name in enumerate(b.rooms):
        free.setdefault(name, []).append(k)
    spare = {name: max(0, n - len(free.get(name, ()))) for name, n in Counter(a.rooms).items()}
    order = _order(a, {name: len(places) for name, places in free.items()})
    before = [frozenset(order[:k]) for k in range(len(order))]
    left = np.cumsum([len(a.near[u] & before[k]) for k, u in enumerate(order)][::-1])[::-1].tolist() + [0]
    best, kept, tried = -1, dict[int, int](), 0
    matched: dict[int, int] = {}
    used: set[int] = set()

    def search(k: int, found: int) -> None:
        nonlocal best, kept, tried
        tried += 1
        if tried > most and best >= 0:
            return
        if found + left[k] <= best or best >= roof:
            return
        if k == len(order):
            best, kept = found, dict(matched)
            return
        u = order[k]
        known = [matched[v] for v in a.near[u] & before[k] if v in matched]
        gains = sorted(
            (-sum(w in b.near[place] for w in known), place)
            for place in free.get(a.rooms[u], ())
            if place not in used
        )
        seen: set[frozenset[int]] = set()
        for gain, place in gains:
            if b.near[place] in seen:  # places with the same neighbours are one
                continue
            seen.add(b.near[place])
            matched[u] = place
            used.add(place)
            search(k + 1, found - gain)
            used.discard(place)
            del matched[u]
        if spare[a.rooms[u]] > 0:
            spare[a.rooms[u]] -= 1
            search(k + 1, found)
            spare[a.rooms[u]] += 1

    search(0, 0)
    return best, kept


def _order(a: Graph, choices: dict[str, int]) -> list[int]:
    """Rooms with few places to go first, then those with most neighbours among them."""
    left, order = set(range(len(a.rooms))), list[int]()
    while left:
        placed = set(order)
        u = min(
            left, key=lambda v: (choices.get(a.rooms[v], 0) > 1, -len(a.near[v] & placed), -len(a.near[v]), v)
        )
        order.append(u)
        left.remove(u)
    return order


def nearest_graphs(graphs: Sequence[Graph], others: Sequence[Graph]) -> list[tuple[int, float]]:
    """The nearest of the others to each, and how many changes it is away, over the size of both."""
    found = []
    for graph in graphs:
        bounds = [
            (least_distance(graph, other) / max(1, graph.size + other.size), k)
            for k, other in enumerate(others)
        ]
        best, where = np.inf, -1
        for bound, k in sorted(bounds):
            if bound >= best:
                break
            distance = edit_distance(graph, others[k]) / max(1, graph.size + others[k].size)
            if distance < best:
                best, where = distance, k
        found.append((where, float(best)))
    return found
