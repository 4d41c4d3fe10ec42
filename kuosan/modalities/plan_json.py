"""Plans in JSON: GeoJSON (RFC 7946), and rectangles of walls by floors (MLSTRUCT-FP).

GeoJSON is in degrees by its standard, and often is not. Without a word on the unit (`metres_per_unit`, or `units`, at
the top or in `kuosan`) coordinates that could be degrees, within 0.05 of each other, are taken for degrees and become
metres; all others are of an unknown unit. North is up.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from kuosan.modalities.base import Unreadable
from kuosan.modalities.plan_raw import Plan, Point
from kuosan.modalities.plan_sketch import Sketch
from kuosan.modalities.plan_walls import Drawing

NAMES = ("kind", "category", "room_type", "room", "type", "class", "usage", "layer", "name", "indoor")
UNITS = {"m": 1.0, "metre": 1.0, "metres": 1.0, "meter": 1.0, "meters": 1.0, "cm": 0.01, "mm": 0.001, "ft": 0.3048,
         "feet": 0.3048, "in": 0.0254}  # fmt: skip
DEGREE, NEAR = 111_320.0, 0.05  # metres of a degree of latitude


def read_json(path: Path) -> Iterator[Drawing | Unreadable]:
    """Every drawing of a file.  Raises `Unreadable`."""
    try:
        tree: Any = json.loads(path.read_text(encoding="utf-8-sig", errors="replace"))
    except OSError as error:
        raise Unreadable(f"it cannot be read ({error.strerror})", path) from None
    except (ValueError, RecursionError):
        raise Unreadable("it is not valid JSON", path) from None
    if not isinstance(tree, dict):
        raise Unreadable("it is no GeoJSON", path)
    try:
        if isinstance(tree.get("rect"), dict):
            yield from _floors(tree)
        elif isinstance(tree.get("rows"), list):
            from kuosan.modalities.plan_rows import drawing_of

            yield drawing_of(tree["rows"], "")
        else:
            yield _collection(tree)
    except (TypeError, ValueError, KeyError, IndexError, AttributeError):
        raise Unreadable("its shapes are not as GeoJSON has them", path) from None


def _floors(tree: Mapping[str, Any]) -> Iterator[Drawing]:
    """A drawing of each floor, in metres: rectangles are pieces of wall."""
    floors: dict[str, Sketch] = defaultdict(Sketch)
    for rect in tree["rect"].values():
        ring = [(float(x), -float(y)) for x, y in zip(rect["x"], rect["y"], strict=True)]
        floors[str(rect["floorID"])].area("wall", ring)
    for name in sorted(floors):
        yield floors[name].drawing(1.0, name)


def _collection(tree: Mapping[str, Any]) -> Drawing:
    features = tree.get("features") if tree.get("type") == "FeatureCollection" else [tree]
    if not isinstance(features, list) or not features:
        raise Unreadable("it has no shapes")
    own = tree.get("kuosan")
    about = own if isinstance(own, dict) else tree
    shapes = []
    for feature in features:
        geometry = feature.get("geometry", feature if "coordinates" in feature else None)
        if geometry:
            shapes += [
                (_name(feature.get("properties") or {}), g) for g in geometry.get("geometries", [geometry])
            ]
    metres = _metres(about)
    if metres is None:
        metres = _metres(features[0].get("properties") or {})
    points = [p for _, g in shapes for p in _points(g["coordinates"])]
    turn, metres = _turn(points, metres, isinstance(own, dict))
    sketch = Sketch()
    for name, g in shapes:
        _add(sketch, name, str(g["type"]), g["coordinates"], turn)
    return sketch.drawing(
        metres, step=float(own["step"]) if isinstance(own, dict) and own.get("step") else None
    )


def _name(properties: Mapping[str, Any]) -> str:
    """What a feature calls itself; a thing that says "room" is what it is used for."""
    words = [
        str(properties[k]) for k in NAMES if isinstance(properties.get(k), str) and properties[k].strip()
    ]
    if words and words[0].lower() in ("room", "space", "area") and len(words) > 1:
        return words[1]
    return words[0] if words else ""


def _metres(tree: Mapping[str, Any]) -> float | None:
    """Metres of a unit, as a tree of JSON says it."""
    if (value := tree.get("metres_per_unit", tree.get("meters_per_unit"))) is not None:
        metres = float(value)
        if not (metres > 0 and math.isfinite(metres)):
            raise Unreadable(f"its scale is {value}, which is none")
        return metres
    unit = tree.get("units", tree.get("unit"))
    return UNITS.get(str(unit).lower()) if unit is not None else None


def _points(tree: Any) -> Iterator[Point]:
    if tree and isinstance(tree[0], (int, float)):
        yield float(tree[0]), float(tree[1])
        return
    if not isinstance(tree, list):
        raise TypeError(tree)
    for part in tree:
        yield from _points(part)


def _turn(points: list[Point], metres: float | None, own: bool) -> tuple[Any, float | None]:
    """How coordinates become those of paper, and metres of a unit of that."""
    xs, ys = [x for x, _ in points], [y for _, y in points]
    wide = max(max(xs, default=0) - min(xs, default=0), max(ys, default=0) - min(ys, default=0))
    degrees = 0 < wide < NEAR and all(abs(x) <= 180 for x in xs) and all(abs(y) <= 90 for y in ys)
    if metres is not None or own or not degrees:
        return (lambda p: (float(p[0]), -float(p[1]))), metres
    x0, y0 = min(xs), min(ys)
    across = DEGREE * math.cos(math.radians(sum(ys) / len(ys)))
    return (lambda p: (round((p[0] - x0) * across, 4), round(-(p[1] - y0) * DEGREE, 4))), 1.0


def _add(sketch: Sketch, name: str, kind: str, coordinates: Any, turn: Any) -> None:
    match kind:
        case "Polygon":
            rings = [[turn(p) for p in ring] for ring in coordinates]
            sketch.area(name, rings[0], [ring[:-1] for ring in rings[1:]])
        case "LineString":
            sketch.line(name, [turn(p) for p in coordinates])
        case "Point":
            sketch.word(name, turn(coordinates))
        case "MultiPolygon" | "MultiLineString" | "MultiPoint":
            for part in coordinates:
                _add(sketch, name, kind.removeprefix("Multi"), part, turn)


def write_geojson(plan: Plan, path: Path) -> None:
    """Rooms as polygons with their category and area, walls, doors, windows and openings as lines."""

    def up(points: Any) -> list[list[float]]:
        return [[float(x), 0.0 - float(y)] for x, y in points]

    features = []
    for room in plan.rooms:
        rings = [up((*ring, ring[0])) for ring in (room.outline, *room.holes)]
        area = plan.square_metres(room.area)
        about = {"kind": "room", "category": room.category} | (
            {} if area is None else {"square_metres": round(area, 4)}
        )
        features.append(_feature("Polygon", rings, about))
    features += [_feature("LineString", up(wall), {"kind": "wall"}) for wall in plan.walls()]
    features += [_feature("LineString", up((o.a, o.b)), {"kind": o.kind}) for o in plan.openings]
    tree = {
        "type": "FeatureCollection", "kuosan": {"metres_per_unit": plan.metres, "step": plan.step},
        "features": features,
    }  # fmt: skip
    path.write_text(json.dumps(tree, indent=1) + "\n", encoding="utf-8")


def _feature(kind: str, coordinates: Any, properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "Feature", "properties": properties, "geometry": {"type": kind, "coordinates": coordinates},
    }  # fmt: skip
