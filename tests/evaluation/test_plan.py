"""Plans measured: edit distances by enumeration, copies noticed, real plans as good as real plans."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest

from kuosan.evaluation.plan import Graph, edit_distance, evaluate_plans, portrait
from kuosan.evaluation.plan.evaluate import room_areas, room_counts
from kuosan.evaluation.plan.graphs import least_distance, matching, nearest_graphs
from kuosan.evaluation.plan.portraits import nearest_pictures
from kuosan.modalities.plan_rows import drawing_of
from tests.modalities.plans import flat, random_states, some_form

FORM = some_form()


def some_graph(rng: np.random.Generator, n: int = 5) -> Graph:
    rooms = tuple(rng.choice(["bedroom", "closet", "kitchen"], n).tolist())
    edges = {(i, j) for i in range(n) for j in range(i + 1, n) if rng.uniform() < 0.4}
    return Graph(rooms, frozenset(edges))


def by_enumeration(a: Graph, b: Graph) -> int:
    """All partial matchings of rooms of one category, padded so that permutations list them."""
    best = a.size + b.size
    slots = [*range(len(b.rooms)), *([-1] * len(a.rooms))]
    for places in set(permutations(slots, len(a.rooms))):
        if any(p >= 0 and a.rooms[i] != b.rooms[p] for i, p in enumerate(places)):
            continue
        m = sum(p >= 0 for p in places)
        common = sum((min(places[i], places[j]), max(places[i], places[j])) in b.edges for i, j in a.edges)
        best = min(best, a.size + b.size - 2 * m - 2 * common)
    return best


def test_edit_distance_is_the_least_of_all_matchings() -> None:
    rng = np.random.default_rng(0)
    for _ in range(25):
        a, b = some_graph(rng, int(rng.integers(1, 5))), some_graph(rng, int(rng.integers(1, 5)))
        exact = by_enumeration(a, b)
        assert edit_distance(a, b) == edit_distance(b, a) == exact
        assert least_distance(a, b) <= exact
        c = some_graph(rng, 4)
        assert exact <= edit_distance(a, c) + edit_distance(c, b)


def test_a_graph_under_other_numbers_is_the_same_and_the_matching_says_which() -> None:
    rng = np.random.default_rng(1)
    for _ in range(20):
        a = some_graph(rng, 8)
        order = rng.permutation(8)
        to = {int(k): i for i, k in enumerate(order)}
        edges = frozenset((min(to[i], to[j]), max(to[i], to[j])) for i, j in a.edges)
        b = Graph(tuple(a.rooms[k] for k in order), edges)
        assert edit_distance(a, b) == 0
        count, places = matching(a, b)
        assert count == len(a.edges) and all(a.rooms[i] == b.rooms[p] for i, p in places.items())
        found = nearest_graphs([a], [some_graph(rng, 8), b])
        assert found == [(1, 0.0)]


def portraits(n: int, seed: int) -> list[object]:
    return [
        portrait(FORM, FORM.tokens(FORM.read(drawing_of(flat(seed=seed + k), "").plan()))) for k in range(n)
    ]


def test_a_portrait_knows_its_rooms_areas_and_doors() -> None:
    plan = drawing_of(flat(), "").plan()
    one = portrait(FORM, FORM.tokens(FORM.read(plan)))
    assert sorted(one.rooms) == sorted(r.category for r in plan.rooms) and not one.flaws
    assert sum(one.areas) == pytest.approx(one.area)
    shares = {name: area / one.area for name, area in zip(one.rooms, one.areas, strict=True)}
    for room in plan.rooms:
        assert shares[room.category] == pytest.approx(room.area / plan.area, abs=0.03)
    ends = {frozenset((one.graph.rooms[a], one.graph.rooms[b])) for a, b in one.graph.edges}
    assert ends == {frozenset(p) for p in (("outside", "entrance"), ("entrance", "bedroom"), ("entrance", "kitchen"),
                                           ("entrance", "bathroom"))}  # fmt: skip
    assert room_counts([one])[0, 4] == 1 and room_areas([one], list(FORM.categories)).sum() == 4
    covered = (one.picture > 0).mean()
    assert covered == pytest.approx(200 / 300, abs=0.05)


def test_mirrored_copies_are_found_and_random_states_are_no_plans() -> None:
    train, val = portraits(40, 0), portraits(60, 100)
    states = [FORM.tokens(FORM.read(drawing_of(flat(seed=k), "").plan())) for k in range(40)]
    copies = [portrait(FORM, FORM.turned(state, k % 8)) for k, state in enumerate(states)]
    assert nearest_pictures(copies, train)[1].max() < 0.05  # type: ignore[arg-type]
    assert nearest_pictures(train, train)[1].max() == 0  # type: ignore[arg-type]
    names = list(FORM.categories)
    found = evaluate_plans(copies, train, val, names)  # type: ignore[arg-type]
    m = found.metrics
    assert m["copies"].value > 0.8 and m["nearest_distance"].value < 0.05 and m["valid"].value == 1
    assert m["room_count_overlap"].value == 1 and m["graph_distance"].value == 0
    assert "plan_area_overlap" in found.left_out
    wild = [portrait(FORM, state) for state in random_states(FORM, 40)]
    other = evaluate_plans(wild, train, val, names, scaled=True).metrics  # type: ignore[arg-type]
    assert other["valid"].value < 0.1 and other["copies"].value == 0
    for name in ("room_count_overlap", "room_use_overlap", "door_overlap", "room_area_overlap"):
        assert other[name].value < m[name].value - 0.1
    assert other["graph_distance"].value > m["graph_distance"].value + 0.1
    assert other["graph_variety"].value > m["graph_variety"].value
    again = evaluate_plans(wild, train, val, names, scaled=True).metrics  # type: ignore[arg-type]
    assert {k: v.to_json() for k, v in again.items()} == {k: v.to_json() for k, v in other.items()}
