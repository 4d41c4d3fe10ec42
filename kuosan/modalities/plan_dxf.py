"""Plans in DXF, by ezdxf: layers WALLS, DOORS, WINDOWS, OPENINGS and ROOMS are written, any drawing is read.

Read are lines and polylines of the model space, blocks taken apart, and texts; names of layers (of doors also those of
blocks) say what they are. `$INSUNITS` says how long a unit is, and nothing else does.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kuosan.modalities.base import Unreadable
from kuosan.modalities.plan_raw import Plan, Point
from kuosan.modalities.plan_sketch import Sketch
from kuosan.modalities.plan_walls import Drawing
from kuosan.modalities.plan_words import part_of, plain

APP = "KUOSAN"
METRES = 6  # of $INSUNITS
DEEPEST, MOST = 8, 200_000
COLOURS = {"WALLS": 7, "DOORS": 30, "WINDOWS": 5, "OPENINGS": 9, "ROOMS": 8, "LABELS": 8}


def read_dxf(path: Path) -> Drawing:
    """The drawing of a file.  Raises `Unreadable`."""
    import ezdxf
    from ezdxf import units

    try:
        document = ezdxf.readfile(path)
    except OSError as error:
        raise Unreadable(f"it cannot be read ({error.strerror or error})", path) from None
    except Exception:  # of a damaged file the library raises whatever it stumbles over
        raise Unreadable("it is no DXF that can be understood", path) from None
    unit = int(document.header.get("$INSUNITS", 0))
    metres = None
    if 0 < unit <= 20:
        metres = float(units.conversion_factor(units.InsertUnits(unit), units.InsertUnits(METRES)))
    sketch, count = Sketch(), 0
    step: float | None = None
    try:
        for name, entity in _entities(document.modelspace(), "", 0):
            count += 1
            if count > MOST:
                raise Unreadable(f"it has more than {MOST:,} entities, and a plan has far fewer", path)
            if entity.has_xdata(APP):
                step = float(entity.get_xdata(APP)[1].value) or None
            _add(sketch, name, entity)
    except (ezdxf.DXFError, ValueError, TypeError, AttributeError):
        raise Unreadable("an entity of it is damaged", path) from None
    return sketch.drawing(metres, step=step)


def _entities(space: Any, name: str, depth: int) -> Iterator[tuple[str, Any]]:
    """Entities with the name that says what they are; of blocks, their parts."""
    for entity in space:
        layer = str(entity.dxf.get("layer", "0"))
        here = name if layer == "0" and name else layer
        if entity.dxftype() != "INSERT":
            yield here, entity
            continue
        block = str(entity.dxf.get("name", ""))
        inside = block if part_of(here) is None and part_of(block) else here
        if depth < DEEPEST:
            yield from _entities(entity.virtual_entities(), inside, depth + 1)


def _add(sketch: Sketch, name: str, entity: Any) -> None:
    match entity.dxftype():
        case "LINE":
            sketch.line(name, [_down(entity.dxf.start), _down(entity.dxf.end)])
        case "LWPOLYLINE" | "POLYLINE":
            points = [
                _down(p)
                for p in (entity.points() if entity.dxftype() == "POLYLINE" else entity.get_points("xy"))
            ]
            closed = bool(entity.is_closed) or (len(points) > 3 and points[0] == points[-1])
            if len(points) < 2:
                return
            if entity.has_xdata(APP):
                name = str(entity.get_xdata(APP)[0].value)
            elif plain(name) in ("rooms", "room", "spaces", "space"):
                name = "room"
            (sketch.area if closed else sketch.line)(name, points)
        case "TEXT":
            if name != "LABELS":
                sketch.word(str(entity.dxf.text), _down(entity.dxf.insert))
        case "MTEXT":
            sketch.word(str(entity.plain_text()), _down(entity.dxf.insert))


def _down(point: Any) -> Point:
    x, y = float(point[0]), 0.0 - float(point[1])
    if not (math.isfinite(x) and math.isfinite(y)):
        return float("nan"), float("nan")
    return round(x, 6), round(y, 6)


def write_dxf(plan: Plan, path: Path) -> None:
    """A drawing in layers, in metres where these are known."""
    import ezdxf

    document = ezdxf.new("R2010", setup=False)
    document.header["$INSUNITS"] = METRES if plan.metres else 0
    document.header["$MEASUREMENT"] = 1
    document.appids.add(APP)
    for name, colour in COLOURS.items():
        document.layers.add(name, color=colour)
    space = document.modelspace()
    k = plan.metres or 1.0

    def up(p: Point) -> Point:
        return p[0] * k, -p[1] * k

    for room in plan.rooms:
        line = space.add_lwpolyline([up(p) for p in room.outline], close=True, dxfattribs={"layer": "ROOMS"})
        line.set_xdata(APP, [(1000, room.category), (1040, (plan.step or 0.0) * k)])
        place = room.polygon.representative_point()
        x0, y0, x1, y1 = plan.bounds
        high = max(x1 - x0, y1 - y0) * k / 45
        text = space.add_text(room.category.replace("_", " "), height=high, dxfattribs={"layer": "LABELS"})
        text.set_placement(up((place.x, place.y)))
    for wall in plan.walls():
        space.add_line(up(wall[0]), up(wall[1]), dxfattribs={"layer": "WALLS"})
    layers = {"door": "DOORS", "window": "WINDOWS", "opening": "OPENINGS"}
    for opening in plan.openings:
        space.add_line(up(opening.a), up(opening.b), dxfattribs={"layer": layers[opening.kind]})
    document.saveas(path)
