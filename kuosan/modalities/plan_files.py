"""Files of plans, by what is in them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import shapely

from kuosan.modalities.base import Unreadable
from kuosan.modalities.plan_raw import Plan
from kuosan.modalities.plan_rows import read_rows
from kuosan.modalities.plan_walls import Drawing

SMALL = 0.05
WRITTEN = ("svg", "dxf", "geojson", "png")


def drawings(path: Path) -> Iterator[Drawing | Unreadable]:
    """Every drawing of a file, one at a time; in place of one that cannot be read, why.  Raises `Unreadable`."""
    suffix = path.suffix.lower()
    if suffix == ".svg":
        from kuosan.modalities.plan_svg import read_svg

        yield read_svg(path)
    elif suffix == ".dxf":
        from kuosan.modalities.plan_dxf import read_dxf

        yield read_dxf(path)
    elif suffix in (".geojson", ".json"):
        from kuosan.modalities.plan_json import read_json

        yield from read_json(path)
    elif suffix in RASTERS:
        from kuosan.modalities.plan_raster import read_raster

        yield read_raster(path)
    elif suffix in (".npy", ".npz"):
        raise Unreadable(
            "it is an array, and pieces of a raster do not say where rooms end: give whole plans, drawn or as vectors"
        )
    else:
        yield from read_rows(path)


def read_plans(path: Path) -> Iterator[Plan | Unreadable]:
    """Every plan of a file, one at a time; in place of one that cannot be read, why.  Raises `Unreadable`."""
    for drawing in drawings(path):
        if isinstance(drawing, Unreadable):
            yield drawing
            continue
        try:
            yield from detached(drawing.plan())
        except Unreadable as error:
            where = f"{drawing.name}: " if drawing.name else ""
            yield Unreadable(f"{where}{error.reason}")


def detached(plan: Plan) -> list[Plan]:
    """The buildings of a drawing that do not touch, each a plan; without those that are a twentieth of it or less."""
    shapes = [room.polygon for room in plan.rooms]
    parts = shapely.get_parts(shapely.union_all(shapes))
    if len(parts) < 2:
        return [plan]
    large = [part for part in parts if part.area > SMALL * plan.area]
    found = []
    for k, part in enumerate(large, 1):
        near = 0.02 * max(part.bounds[2] - part.bounds[0], part.bounds[3] - part.bounds[1])
        rooms = tuple(r for r in plan.rooms if part.covers(r.polygon.representative_point()))
        openings = tuple(o for o in plan.openings if part.distance(shapely.Point(o.middle)) <= near)
        name = f"{plan.name}/{k}" if len(large) > 1 else plan.name
        found.append(Plan(rooms, openings, plan.metres, name, plan.step))
    return found


def read_plan(path: Path) -> Plan:
    """The first plan of a file.  Raises `Unreadable`."""
    for plan in read_plans(path):
        if isinstance(plan, Unreadable):
            raise Unreadable(plan.reason, path)
        return plan
    raise Unreadable("it holds no plan", path)


RASTERS = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".gif")


def write_plan(plan: Plan, path: Path) -> Path:
    """Writes SVG, or what the suffix says; the path written.  Raises `ValueError` for another kind of file."""
    kind = path.suffix.lower().lstrip(".") or WRITTEN[0]
    path = path if path.suffix else path.with_name(f"{path.name}.{kind}")
    if kind == "svg":
        from kuosan.modalities.plan_svg import write_svg

        write_svg(plan, path)
    elif kind == "dxf":
        from kuosan.modalities.plan_dxf import write_dxf

        write_dxf(plan, path)
    elif kind in ("geojson", "json"):
        from kuosan.modalities.plan_json import write_geojson

        write_geojson(plan, path)
    elif kind == "png":
        from kuosan.modalities.plan_draw import plan_picture

        plan_picture(plan, 900).save(path)
    else:
        raise ValueError(f"plans are written as {', '.join(WRITTEN)}, not as {kind}")
    return path
