"""A run over plans from end to end: trained, resumed by what is asked, wishes kept in every plan that is written."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
import torch
from shapely.affinity import translate

import kuosan
from kuosan.errors import UserError
from kuosan.evaluation.plan.graphs import Graph, matching
from kuosan.modalities.plan_files import read_plan, write_plan
from kuosan.modalities.plan_layout import Layout
from kuosan.modalities.plan_raw import Plan, Room
from kuosan.modalities.plan_tidy import flaws, tidy
from kuosan.recipes.plans_measure import plans_of
from kuosan.recipes.plans_mend import Brief, graph_of, mended
from kuosan.recipes.plans_wishes import PlanWishes, rules_of_plans
from tests.modalities.plans import flat, some_form


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("plans")
    lines = [json.dumps({"id": f"p{k}", "rows": flat(seed=k)}) for k in range(40)]
    (folder / "plans.jsonl").write_text("\n".join(lines), encoding="utf-8")
    leaves: dict[str, Any] = {
        "data.scale": 0.03, "network.dim": 32, "network.depth": 1, "network.heads": 1, "sampling.steps": 6,
    }  # fmt: skip
    return kuosan.train(folder, out=folder / "run", budget="4steps", **leaves)


def layouts(run: Any, samples: Any) -> list[Any]:
    return [plans_of(run).form.layout(row) for row in samples.x.numpy()]


def test_a_run_leaves_what_every_run_does(run: Any) -> None:
    assert (run.path / "report.html").stat().st_size > 50_000
    found = json.loads((run.path / "evaluation.json").read_text(encoding="utf-8"))
    assert {"valid", "room_use_overlap", "plan_area_overlap", "bits_per_room"} <= set(found["metrics"])
    samples = run.sample(3, seed=1)
    assert torch.equal(samples.x[1:], run.sample(2, seed=1, first=1).x)
    for state in samples.x.numpy():
        form = plans_of(run).form
        assert form.possible[torch.arange(form.length), torch.from_numpy(state)].all()
        assert not flaws(form.layout(state), form.door)


def test_asked_rooms_are_there_in_every_plan(run: Any) -> None:
    rules = rules_of_plans(run, PlanWishes(rooms="bedroom=1,kitchen=1,bathroom=1"))
    assert rules is not None
    samples = run.sample(12, rules=rules)
    met = 0
    for layout in layouts(run, samples):
        have = [Counter(layout.categories)[name] for name in ("bedroom", "kitchen", "bathroom")]
        met += have == [1, 1, 1]
        assert max(have) <= 1  # never more; fewer only where there are not enough rooms
        assert have == [1, 1, 1] or len(layout.categories) < 3 or min(have) == 0
    told = rules.canvas.told  # type: ignore[union-attr]
    assert told["samples"] == 12 and told["met"] == met and told["candidates"] >= 12
    assert torch.equal(run.sample(2, first=4, rules=rules).x, samples.x[4:6])


def test_an_area_is_kept(run: Any) -> None:
    rules = rules_of_plans(run, PlanWishes(area=60.0))
    for plan in run.sample(4, rules=rules).raws():
        assert plan.square_metres(plan.area) == pytest.approx(60, rel=0.03)


def test_an_outline_is_filled_exactly(run: Any, tmp_path: Path) -> None:
    ring = ((0.0, 0.0), (8.0, 0.0), (8.0, 4.0), (5.0, 4.0), (5.0, 6.0), (0.0, 6.0))
    path = write_plan(Plan((Room("room", ring),), (), 1.0), tmp_path / "outline.geojson")
    rules = rules_of_plans(run, PlanWishes(outline=path))
    wanted = shapely.Polygon(ring)
    for plan in run.sample(4, rules=rules).raws():
        found = plan.outline
        x0, y0, _, _ = found.bounds
        moved = translate(found, -x0, -y0)
        assert moved.symmetric_difference(wanted).area == pytest.approx(0, abs=1e-6)
    slanted = write_plan(
        Plan((Room("room", ((0, 0), (8, 0), (4, 6))),), (), 1.0), tmp_path / "slanted.geojson"
    )
    with pytest.raises(UserError, match="parallel"):
        rules_of_plans(run, PlanWishes(outline=slanted))


def test_rooms_that_touch_are_joined_as_asked(run: Any, tmp_path: Path) -> None:
    path = tmp_path / "graph.json"
    path.write_text('{"rooms": ["Bed room", "Entrance", "WC"], "doors": [[0, 1]]}', encoding="utf-8")
    with pytest.raises(UserError, match="restroom"):
        rules_of_plans(run, PlanWishes(graph=str(path)))
    asked = Graph(("bedroom", "entrance"), frozenset({(0, 1)}))
    rules = rules_of_plans(run, PlanWishes(graph="bedroom-entrance"))
    form = plans_of(run).form
    for layout in layouts(run, run.sample(8, rules=rules)):
        touching = matching(asked, graph_of(form, layout, True))[0]
        assert matching(asked, graph_of(form, layout, False))[0] == touching


@pytest.mark.parametrize(
    ("wishes", "reason"),
    [
        ({"rooms": "bedroom"}, "write it like"),
        ({"rooms": "sauna=1"}, "it knows"),
        ({"rooms": "bedroom=40"}, "it knows"),
        ({"graph": "kitchen"}, "write it like"),
        ({"graph": "there.json"}, "no file"),
        ({"area": -1.0}, "no area"),
        ({"outline": Path("there.svg")}, "no file"),
    ],
)
def test_wishes_that_cannot_be_say_why(run: Any, wishes: dict[str, Any], reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        rules_of_plans(run, PlanWishes(**wishes))


def test_written_samples_are_read_again(run: Any, tmp_path: Path) -> None:
    samples = run.sample(3)
    paths = run.write(samples, tmp_path)
    assert (tmp_path / "overview.png").is_file() and all(p.suffix == ".svg" for p in paths)
    for path, layout in zip(paths, layouts(run, samples), strict=True):
        assert Counter(r.category for r in read_plan(path).rooms) == Counter(layout.categories)


def brief(**asked: Any) -> Brief:
    return Brief(asked.get("counts", {}), asked.get("graph", Graph((), frozenset())), None, None, {})


def test_mending_renames_what_nobody_asked_for_and_cuts_the_doors() -> None:
    form = some_form()
    rooms = np.array([[1, 2, 3], [4, 4, 4]])
    none = np.zeros((2, 4), dtype=np.int64), np.zeros((3, 3), dtype=np.int64)
    names = ("bathroom", "corridor", "kitchen", "corridor")
    layout = tidy(Layout(np.arange(4) * 10, np.arange(3) * 10, rooms, names, *none), form.laws)
    two = mended(form, brief(counts={"bedroom": 2, "kitchen": 1}), layout)
    assert Counter(two.categories)["bedroom"] == 2 and Counter(two.categories)["kitchen"] == 1
    # bathroom and kitchen do not touch: one of them changes places with a corridor
    asked = Graph(("bathroom", "kitchen"), frozenset({(0, 1)}))
    found = mended(form, brief(graph=asked, counts={"bathroom": 1, "kitchen": 1}), layout)
    assert Counter(found.categories) == Counter(names)
    assert matching(asked, graph_of(form, found, False))[0] == 1 and not flaws(found, form.door)
