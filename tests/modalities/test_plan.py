"""Plans as tokens: laws of any state whatsoever, exact on the grid, views, walls that become rooms."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import shapely
import torch

from kuosan.core.random import Seeds
from kuosan.errors import UserError
from kuosan.modalities import PlanModality, load, modality_from_spec
from kuosan.modalities.base import Unreadable
from kuosan.modalities.plan_layout import Layout, placed
from kuosan.modalities.plan_raw import Plan, between
from kuosan.modalities.plan_rows import drawing_of
from kuosan.modalities.plan_tidy import Laws, flaws, is_reachable, tidy
from kuosan.modalities.plan_words import SHAFT

from .plans import flat, plans_file, random_states, some_form

FORM = some_form()
STATES = random_states(FORM, 160)


def walkable(plan: Plan, step: float) -> set[int]:
    """Rooms that one gets into from outside, found from what is written alone."""
    edges = []
    for opening, rooms in between(plan, 0.01 * step):
        if opening.kind != "window":
            edges.append(tuple(rooms) if len(rooms) == 2 else (-1, *rooms))
    reached, fresh = {-1}, True
    while fresh:
        fresh = False
        for a, b in edges:
            if (a in reached) != (b in reached):
                reached |= {a, b}
                fresh = True
    return reached


def test_whatever_the_tokens_are_what_is_written_is_a_plan() -> None:
    for state in STATES:
        plan = FORM.plan(FORM.layout(state))
        shapes = [room.polygon for room in plan.rooms]
        assert shapes and all(shape.is_valid and shape.area > 0 for shape in shapes)
        outline = shapely.union_all(shapes)
        assert outline.geom_type == "Polygon" and not outline.interiors  # closed, in one piece, without holes
        assert outline.area == pytest.approx(sum(shape.area for shape in shapes), abs=1e-9)  # no overlap
        for shape in shapes:
            for ring in (shape.exterior, *shape.interiors):
                assert (np.diff(np.array(ring.coords), axis=0) == 0).any(1).all()  # parallel to the axes
        reached = walkable(plan, 1.0)
        assert all(k in reached for k, room in enumerate(plan.rooms) if room.category != SHAFT)
        for opening in plan.openings:  # in a wall, or where one would be
            line = shapely.LineString((opening.a, opening.b))
            assert any(shape.boundary.covers(line) for shape in shapes)


def test_tidy_is_its_own_square_and_states_come_back() -> None:
    for state in STATES:
        layout = FORM.layout(state)
        assert not flaws(layout, FORM.door) and is_reachable(layout, FORM.door)
        tokens = FORM.tokens(layout)
        assert (tokens == FORM.tokens(FORM.layout(tokens))).all()
        assert (tokens == FORM.tokens(FORM.read(FORM.plan(layout)))).all()
        assert FORM.possible[torch.arange(FORM.length), torch.from_numpy(tokens)].all()


def test_between_two_rooms_there_is_one_door_or_an_opening() -> None:
    for state in STATES[:60]:
        layout = FORM.layout(state)
        things = placed(layout, FORM.door)
        doors = Counter(thing.span.pair for thing in things if thing.kind == "door")
        windows = Counter(thing.span for thing in things if thing.kind == "window")
        joined = {span.pair for span in layout.spans if layout.is_open(span)}
        assert not doors or max(doors.values()) == 1
        assert not windows or max(windows.values()) == 1
        assert not joined & set(doors) and not joined & {span.pair for span in windows}
        assert all(pair[0] for pair in joined)


def test_a_door_is_added_where_such_rooms_have_one_most_often() -> None:
    # a bedroom between a corridor with the entrance and a bathroom: it touches both, and has no door
    rooms = np.array([[1, 2, 3]])
    upright, level = np.zeros((1, 4), dtype=np.int64), np.zeros((2, 3), dtype=np.int64)
    upright[0, 0] = 2
    layout = Layout(
        np.arange(4) * 10, np.array([0, 10]), rooms, ("corridor", "bedroom", "bathroom"), upright, level
    )

    def likely(a: str, b: str) -> float:
        return {("bedroom", "corridor"): 0.9, ("bathroom", "bedroom"): 0.5}.get((min(a, b), max(a, b)), 0.0)

    found = tidy(layout, Laws(4, 12, likely))
    assert {thing.span.pair for thing in placed(found, 4)} == {(0, 1), (1, 2), (2, 3)}
    # without an entrance the first is where such rooms have theirs
    layout = Layout(layout.xs, layout.ys, rooms, layout.categories, np.zeros_like(upright), level)
    found = tidy(layout, Laws(4, 12, lambda a, b: 0.9 if {a, b} == {"bedroom", "outside"} else 0.1))
    assert (0, 2) in {thing.span.pair for thing in placed(found, 4)}


def test_pieces_go_to_the_neighbour_with_the_longest_border_and_holes_are_filled() -> None:
    rooms = np.array(
        [[1, 1, 2, 1], [1, 0, 2, 2], [3, 3, 3, 2]]
    )  # a piece of 1 beside 2; a hole between 1, 2 and 3
    none = np.zeros((3, 5), dtype=np.int64), np.zeros((4, 4), dtype=np.int64)
    xs, ys = np.array([0, 5, 9, 14, 19]), np.array([0, 5, 10, 15])
    found = tidy(
        Layout(xs, ys, rooms, ("bedroom", "kitchen", "corridor"), *none), Laws(4, 12, lambda a, b: 0.0)
    )
    assert dict(zip(found.categories, found.areas()[1:].tolist(), strict=True)) == {
        "bedroom": 5 * 9 + 5 * 5 + 4 * 5, "kitchen": 5 * 10 + 5 * 10 + 5 * 5, "corridor": 5 * 14,
    }  # fmt: skip


def test_views_are_mirror_images_and_come_back() -> None:
    for state in STATES[:40]:
        tokens = FORM.tokens(FORM.layout(state))
        layout = FORM.layout(tokens)
        for view in range(8):
            seen = FORM.turned(tokens, view)
            other = FORM.layout(seen)
            assert Counter(other.categories) == Counter(layout.categories)
            assert sorted(other.areas().tolist()) == sorted(layout.areas().tolist())
            assert not flaws(FORM.as_drawn(seen), FORM.door)
            if view in (1, 2, 3):
                assert (FORM.turned(seen, view) == tokens).all()
        mirrored = FORM.layout(FORM.turned(tokens, 1))
        names = (
            [0, *(hash(name) for name in layout.categories)],
            [0, *(hash(name) for name in mirrored.categories)],
        )
        assert (np.array(names[0])[layout.rooms][:, ::-1] == np.array(names[1])[mirrored.rooms]).all()


def test_training_sees_views_by_seed_alone() -> None:
    modality = PlanModality(FORM)
    x = torch.from_numpy(np.stack([FORM.tokens(FORM.layout(s)) for s in STATES[:20]])).to(torch.uint8)
    assert torch.equal(modality.to_state(x), x.long())
    seeds = Seeds.of(1, 20)
    assert torch.equal(modality.to_state(x, seeds), modality.to_state(x, seeds))
    assert not torch.equal(modality.to_state(x, seeds), x.long())
    assert torch.equal(PlanModality(FORM, "none").to_state(x, seeds), x.long())
    again = modality_from_spec(json.loads(json.dumps(modality.spec())))
    assert torch.equal(again.to_state(x, seeds), modality.to_state(x, seeds))


def test_walls_become_rooms_with_the_words_that_stand_in_them() -> None:
    plan = drawing_of(flat(), "a").plan()
    assert Counter(r.category for r in plan.rooms) == Counter(["bedroom", "kitchen", "entrance", "bathroom"])
    assert plan.area == pytest.approx(300 * 200)
    kinds = Counter(o.kind for o in plan.openings)
    assert kinds == {
        "door": 4,
        "window": 1,
    }  # what is drawn as a door in the bedroom's outer wall is a window
    # drawn a little off it is the same
    rng = np.random.default_rng(0)
    off = [[*(v + rng.uniform(-1.2, 1.2) for v in row[:4]), row[4]] for row in flat()]
    other = drawing_of(off, "b").plan()
    form = some_form()
    assert form.read(other).categories == form.read(plan).categories
    assert form.read(other).size == form.read(plan).size


def test_two_words_in_one_room_divide_it_by_an_opening() -> None:
    rows = [r for r in flat() if r[4] != "bathroom"] + [[200, 60, 210, 66, "living_room"]]
    plan = drawing_of(rows, "a").plan()
    assert plan.area == pytest.approx(300 * 200)
    assert "opening" in {o.kind for o in plan.openings}
    names = {r.category for r in plan.rooms}
    assert {"kitchen", "living_room"} <= names and "bathroom" not in names


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ([], "no walls"),
        ([[0, 0, 10, 0, "wall"], [0, 0, 0, 10, "wall"]], "enclose no room"),
        ([[0, 0, 0, 0, "wall"]], "length zero"),
        ([[0, 0, float("nan"), 0, "wall"], *flat()], "no numbers"),
        ([[1, 2, 3]], "not x1, y1, x2, y2"),
        ([[5, 5, 5, 5, "wall"], [5, 5, 5, 5.0, "door"]], "length zero"),
    ],
)
def test_what_is_no_plan_says_why(rows: list[list[object]], reason: str) -> None:
    with pytest.raises(Unreadable, match=reason):
        drawing_of(rows, "a").plan()


def test_crossing_walls_and_plans_without_doors_are_read() -> None:
    crossed = drawing_of([*flat(), [0, 0, 300, 200, "wall"]], "a").plan()
    assert crossed.area == pytest.approx(300 * 200)
    bare = drawing_of([r for r in flat() if r[4] != "door"], "a").plan()
    form = some_form()
    assert is_reachable(form.read(bare), form.door)


def test_a_folder_of_rows_is_plans_and_bad_ones_are_left_out(tmp_path: Path) -> None:
    path = plans_file(tmp_path / "plans.jsonl", 14)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps({"id": "open", "rows": flat()[:3]}) + "\nnot json\n")
        file.write('{"id": "nan", "rows": [[0, 0, NaN, 1, "wall"]]}\n')
    (tmp_path / "README.md").write_text("about", encoding="utf-8")
    (tmp_path / "copies").mkdir()
    rows = "\n".join("\t".join(map(str, row)) + "\t1\t1\t" for row in flat(seed=3))
    (tmp_path / "copies" / "p3.txt").write_text(rows, encoding="utf-8")
    data = load(tmp_path)
    assert data.survey.modality == "plan" and data.survey.duplicates["extra_copies"] == 1
    assert len(data.train) + len(data.val) == 14
    assert {reason.partition(":")[0] for _, reason in data.survey.left_alone} >= {
        "open",
        "line 16 is no plan in JSON",
    }
    assert data.survey.totals["rooms"] >= 14 * 4
    again = load(tmp_path, like=data.modality, columns=data.columns)
    assert torch.equal(again.train.x, data.train.x)


def test_a_plan_with_a_wrong_row_is_still_no_text(tmp_path: Path) -> None:
    (tmp_path / "plans.jsonl").write_text(
        json.dumps({"rows": [["x", 0, 9, 0, "wall"], *flat()]}), encoding="utf-8"
    )
    with pytest.raises(UserError, match=r"line 1: a row of it is not x1, y1, x2, y2"):
        load(tmp_path)


def test_a_scale_gives_square_metres_and_is_never_guessed(tmp_path: Path) -> None:
    plans_file(tmp_path / "plans.jsonl", 6)
    unknown = load(tmp_path)
    assert (
        unknown.modality.form.step is None
        and unknown.modality.decode(unknown.train.x.long())[0].metres is None
    )  # type: ignore[attr-defined]
    known = load(tmp_path, options={"plan": {"scale": 0.03}})
    plan = known.modality.decode(known.train.x.long())[0]
    assert plan.square_metres(plan.area) == pytest.approx(9 * 6, rel=0.03)
    with pytest.raises(UserError, match="m long"):
        load(tmp_path, options={"plan": {"scale": 100.0}})


def test_real_plans_keep_their_rooms(shared_data: object, tmp_path: Path) -> None:
    source = shared_data("floorplan_vectors")  # type: ignore[operator]
    lines = (source / "plans.jsonl").read_text(encoding="utf-8").splitlines()[:40]
    (tmp_path / "plans.jsonl").write_text("\n".join(lines), encoding="utf-8")
    data = load(tmp_path)
    assert len(data.train) + len(data.val) >= 38
    form = data.modality.form  # type: ignore[attr-defined]
    for state in data.train.x.long().numpy():
        assert not flaws(form.as_drawn(state), form.door)
        assert (form.tokens(form.layout(state)) == state).all()
    asked = sum(row.count('"bedroom"') for row in lines)
    kept = sum(data.modality.form.layout(s).categories.count("bedroom")  # type: ignore[attr-defined]
               for part in (data.train, data.val) for s in part.x.long().numpy())  # fmt: skip
    assert kept >= 0.9 * asked
