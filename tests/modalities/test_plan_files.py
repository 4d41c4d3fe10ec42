"""Files of plans: read back by independent libraries, round trips exact on the grid, units never wrong in silence."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import ezdxf
import numpy as np
import pytest
from ezdxf import units
from PIL import Image, ImageDraw
from shapely.geometry import shape

from kuosan.errors import UserError
from kuosan.modalities import PlanModality, load
from kuosan.modalities.base import Unreadable
from kuosan.modalities.plan_files import read_plan, read_plans
from kuosan.modalities.plan_raw import Plan

from .plans import flat, random_states, some_form

SQUARE = [(0, 0), (4, 0), (4, 3), (0, 3)]
BESIDE = [(4.2, 0), (8, 0), (8, 3), (4.2, 3)]  # a wall of 20 cm between them


def written(step: float | None, n: int = 12) -> list[tuple[PlanModality, np.ndarray, Plan]]:
    form = some_form(step)
    found = []
    for state in random_states(form, n, seed=5):
        layout = form.layout(state)
        found.append((PlanModality(form), form.tokens(layout), form.plan(layout)))
    return found


@pytest.mark.parametrize("kind", ["svg", "dxf", "geojson"])
@pytest.mark.parametrize("step", [None, 0.1])
def test_files_come_back_exactly_on_the_grid(kind: str, step: float | None, tmp_path: Path) -> None:
    for modality, tokens, plan in written(step):
        again = modality.read(modality.write(plan, tmp_path / f"a.{kind}"))
        assert (modality.encode([again])[0].numpy() == tokens).all()
        assert again.metres == plan.metres


def test_other_libraries_read_what_is_written(tmp_path: Path) -> None:
    for _, _, plan in written(0.1, 6):
        modality = PlanModality(some_form(0.1))
        tree = json.loads(modality.write(plan, tmp_path / "a.geojson").read_text(encoding="utf-8"))
        rooms = [f for f in tree["features"] if f["properties"]["kind"] == "room"]
        assert all(shape(f["geometry"]).is_valid for f in tree["features"])
        assert sum(shape(f["geometry"]).area for f in rooms) == pytest.approx(plan.area)
        assert all(
            f["properties"]["square_metres"] == pytest.approx(shape(f["geometry"]).area) for f in rooms
        )
        document = ezdxf.readfile(modality.write(plan, tmp_path / "a.dxf"))
        assert not document.audit().errors and document.header["$INSUNITS"] == 6
        space = document.modelspace()
        assert len(space.query('LWPOLYLINE[layer=="ROOMS"]')) == len(plan.rooms)
        length = sum(e.dxf.start.distance(e.dxf.end) for e in space.query('LINE[layer=="WALLS"]'))
        assert length == pytest.approx(sum(math.dist(a, b) for a, b in plan.walls()))
        root = ElementTree.parse(modality.write(plan, tmp_path / "a")).getroot()
        name = "{http://www.w3.org/2000/svg}"
        assert len(root.findall(f"{name}g[@id='rooms']/{name}path")) == len(plan.rooms)
        assert Image.open(modality.write(plan, tmp_path / "a.png")).size[0] > 100


def _geojson(path: Path, scale: float = 1.0, origin: tuple[float, float] = (0.0, 0.0), **top: Any) -> Path:
    def at(points: Any) -> list[list[float]]:
        return [[origin[0] + x * scale, origin[1] + y * scale] for x, y in points]

    features: list[dict[str, Any]] = [
        {"type": "Feature", "properties": {"room_type": name},
         "geometry": {"type": "Polygon", "coordinates": [at((*ring, ring[0]))]}}
        for name, ring in (("Bedroom", SQUARE), ("WC", BESIDE))
    ]  # fmt: skip
    features.append({
        "type": "Feature", "properties": {"kind": "door"},
        "geometry": {"type": "LineString", "coordinates": at([(4.1, 1), (4.1, 2)])},
    })  # fmt: skip
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features, **top}), encoding="utf-8")
    return path


def test_geojson_of_others_in_metres_in_degrees_and_in_nothing(tmp_path: Path) -> None:
    plan = read_plan(_geojson(tmp_path / "m.geojson", units="m"))
    assert plan.metres == 1 and {r.category for r in plan.rooms} == {"bedroom", "restroom"}
    assert plan.area == pytest.approx(24, rel=0.05)  # the wall between them is shared out
    assert read_plan(_geojson(tmp_path / "n.geojson")).metres is None
    north = read_plan(_geojson(tmp_path / "d.geojson", 1 / 111_320, (24.9, 0.0)))
    assert north.metres == 1 and north.area == pytest.approx(24, rel=0.05)
    with pytest.raises(Unreadable, match="m long"):
        read_plan(_geojson(tmp_path / "mm.geojson", units="mm"))


def test_dxf_says_its_unit_and_rooms_are_found_from_walls(tmp_path: Path) -> None:
    for unit, metres in ((units.MM, 0.001), (units.M, 1.0), (units.FT, 0.3048), (0, None)):
        document = ezdxf.new()
        document.header["$INSUNITS"] = unit
        space = document.modelspace()
        k = 1 / metres if metres else 10.0
        for x1, y1, x2, y2, name in flat(9, 6):
            part = {"wall": "A-WALL", "door": "A-DOOR"}.get(name)
            if part:
                space.add_line((x1 * k, -y1 * k), (x2 * k, -y2 * k), dxfattribs={"layer": part})
        space.add_text("Bed Room").set_placement((1 * k, -1 * k))
        path = tmp_path / f"{unit}.dxf"
        document.saveas(path)
        plan = read_plan(path)
        assert plan.metres == (pytest.approx(metres) if metres else None)
        assert len(plan.rooms) == 4 and "bedroom" in {r.category for r in plan.rooms}
        if metres:
            assert plan.square_metres(plan.area) == pytest.approx(54, rel=0.01)


def test_svg_of_others_with_groups_transforms_and_paths(tmp_path: Path) -> None:
    path = tmp_path / "a.svg"
    path.write_text(
        '<svg xmlns="http://www.w3.org/2000/svg"><g transform="translate(10 5) scale(2)">'
        '<g class="Space Bedroom"><polygon points="0,0 40,0 40,30 0,30"/></g>'
        '<g class="Space Kitchen"><path d="M40 0 h40 v30 H40 Z"/></g>'
        '<g class="Door Swing"><polygon points="39,10 41,10 41,18 39,18"/></g>'
        '<g id="FixedFurniture"><rect x="3" y="3" width="5" height="5"/></g></g></svg>',
        encoding="utf-8",
    )
    plan = read_plan(path)
    assert {r.category: r.area for r in plan.rooms} == {"bedroom": 4800, "kitchen": 4800}
    assert [o.kind for o in plan.openings] == ["door"] and plan.openings[0].length == pytest.approx(16)
    assert plan.bounds == (10, 5, 170, 65) and plan.metres is None


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.svg", "<svg", "valid XML"),
        ("a.svg", '<svg xmlns="http://www.w3.org/2000/svg"/>', "no walls and no rooms"),
        (
            "a.svg",
            '<svg xmlns="http://www.w3.org/2000/svg"><polygon class="room" points="0,0 1,1 2,2"/></svg>',
            "area",
        ),
        ("a.dxf", "0\nSECTION\n", "DXF"),
        ("a.geojson", "{", "valid JSON"),
        ("a.geojson", '{"type": "FeatureCollection", "features": []}', "no shapes"),
        ("a.geojson", '{"type": "Polygon", "coordinates": [[["a", 1]]]}', "as GeoJSON has them"),
        (
            "a.geojson",
            '{"type": "Polygon", "coordinates": [[[NaN, 1], [2, 3], [4, 9], [0, 0]]]}',
            "no numbers",
        ),
        ("a.npy", "x", "array"),
    ],
)
def test_damaged_files_say_why(name: str, content: str, reason: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(content, encoding="utf-8")
    with pytest.raises(Unreadable, match=reason):
        found = list(read_plans(path))
        if isinstance(found[0], Unreadable):
            raise found[0]


def test_rooms_that_cross_themselves_or_overlap_are_mended(tmp_path: Path) -> None:
    path = tmp_path / "a.svg"
    path.write_text(
        '<svg xmlns="http://www.w3.org/2000/svg"><polygon class="kitchen" points="0,0 50,0 0,40 50,40"/>'
        '<polygon class="bedroom" points="0,0 100,0 100,100 0,100"/></svg>',
        encoding="utf-8",
    )
    plan = read_plan(path)
    rooms = {r.category: r.polygon for r in plan.rooms}
    assert all(p.is_valid for p in rooms.values())
    assert rooms["kitchen"].intersection(rooms["bedroom"]).area == pytest.approx(0)


def test_walls_drawn_dark_are_read_and_photographs_refused(tmp_path: Path) -> None:
    image = Image.new("L", (400, 300), 255)
    draw = ImageDraw.Draw(image)
    for line in (
        (20, 20, 380, 20),
        (380, 20, 380, 280),
        (380, 280, 20, 280),
        (20, 280, 20, 20),
        (200, 20, 200, 280),
    ):
        draw.line(line, fill=0, width=6)
    draw.rectangle((190, 120, 210, 140), fill=255)  # a doorway
    image.save(tmp_path / "plan.png")
    plan = read_plan(tmp_path / "plan.png")
    assert len(plan.rooms) == 2 and plan.metres is None
    areas = sorted(room.area for room in plan.rooms)
    assert areas[0] == pytest.approx(180 * 260, rel=0.1) and areas[1] == pytest.approx(180 * 260, rel=0.1)
    x0, y0, _, _ = plan.bounds
    doors = [(o.middle[0] - x0, o.middle[1] - y0) for o in plan.openings if o.kind == "door"]
    assert len(doors) == 1 and doors[0] == pytest.approx((180, 110), abs=6)
    noise = np.random.default_rng(0).integers(0, 255, (200, 200)).astype(np.uint8)
    Image.fromarray(noise).save(tmp_path / "photo.png")
    with pytest.raises(Unreadable, match="dark walls on a light ground"):
        read_plan(tmp_path / "photo.png")
    draw.rectangle((100, 0, 300, 300), fill=255)
    image.save(tmp_path / "open.png")
    with pytest.raises(Unreadable, match="enclose no room"):
        read_plan(tmp_path / "open.png")


def test_a_folder_of_geojson_has_metres_and_mixed_scales_are_said(tmp_path: Path) -> None:
    for k in range(5):
        _geojson(tmp_path / f"{k}.geojson", 1 + k / 10, units="m")
    _geojson(tmp_path / "unknown.geojson")
    data = load(tmp_path)
    assert data.modality.form.step == 0.1  # type: ignore[attr-defined]
    assert any("how long its unit is" in reason for _, reason in data.survey.left_alone)
    with pytest.raises(UserError, match="plan"):
        load(_geojson(tmp_path / "lone.json", units="mm"))
