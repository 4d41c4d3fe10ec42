"""Plans in SVG: a subset that is read, and a drawing that is written.

Read are `line`, `polyline`, `polygon`, `rect` and `path` (a curve is the straight line to its end) and `text`, under
groups with transforms; `data-category`, `class`, `inkscape:label` or `id` of an element or of the nearest group around
it say what it is. An SVG says nothing of metres, unless its root has `data-metres-per-unit`, as those written here do.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from xml.sax.saxutils import escape

import numpy as np

from kuosan.modalities.base import Unreadable
from kuosan.modalities.plan_draw import GLASS, INK, LEAF, area_in_words, colour_of
from kuosan.modalities.plan_raw import Plan, Point
from kuosan.modalities.plan_sketch import Sketch
from kuosan.modalities.plan_walls import Drawing

DEEPEST = 200
_LABEL = "{http://www.inkscape.org/namespaces/inkscape}label"
_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")
_COMMAND = re.compile(r"([MmLlHhVvZzCcSsQqTtAa])([^MmLlHhVvZzCcSsQqTtAa]*)")
_ARGUMENTS = {"M": 2, "L": 2, "H": 1, "V": 1, "C": 6, "S": 4, "Q": 4, "T": 2, "A": 7}
Matrix = Any


def read_svg(path: Path) -> Drawing:
    """The drawing of a file.  Raises `Unreadable`."""
    try:
        root = ElementTree.parse(path).getroot()
    except OSError as error:
        raise Unreadable(f"it cannot be read ({error.strerror})", path) from None
    except (ElementTree.ParseError, ValueError):
        raise Unreadable("it is not valid XML", path) from None
    if not _tag(root) == "svg":
        raise Unreadable("it is no SVG", path)
    said = root.get("data-metres-per-unit")
    sketch = Sketch()
    try:
        metres = None if said is None else float(said)
        step = float(root.get("data-step", "0")) or None
        for element in root:
            _walk(sketch, element, np.eye(3), "", 0)
    except (ValueError, IndexError):
        raise Unreadable("a shape of it cannot be read", path) from None
    if metres is not None and not (metres > 0 and math.isfinite(metres)):
        raise Unreadable(f"its scale is {said}, which is none", path)
    return sketch.drawing(metres, step=step)


def _tag(element: ElementTree.Element) -> str:
    return str(element.tag).rpartition("}")[2]


def _walk(sketch: Sketch, element: ElementTree.Element, matrix: Matrix, name: str, depth: int) -> None:
    if depth > DEEPEST:
        raise ValueError("groups within groups without end")
    tag = _tag(element)
    if tag in (
        "defs",
        "symbol",
        "clipPath",
        "mask",
        "marker",
        "pattern",
        "metadata",
        "style",
        "title",
        "desc",
    ):
        return
    own = next((element.get(k) for k in ("data-category", "class", _LABEL, "id") if element.get(k)), None)
    name = name if own is None else own
    if (transform := element.get("transform")) is not None:
        matrix = matrix @ _matrix(transform)

    def at(points: list[Point]) -> list[Point]:
        moved = np.array([[x, y, 1.0] for x, y in points]) @ matrix.T
        return [(float(x), float(y)) for x, y in moved[:, :2].round(6)]

    number = {k: float(_NUMBER.match(v.strip())[0]) for k, v in element.attrib.items()  # type: ignore[index]
              if k in ("x", "y", "x1", "y1", "x2", "y2", "width", "height") and _NUMBER.match(v.strip())}  # fmt: skip
    match tag:
        case "line":
            sketch.line(
                name,
                at([(number.get("x1", 0), number.get("y1", 0)), (number.get("x2", 0), number.get("y2", 0))]),
            )
        case "polyline" | "polygon":
            values = [float(v) for v in _NUMBER.findall(element.get("points", ""))]
            points = list(zip(values[::2], values[1::2], strict=False))
            if points:
                (sketch.area if tag == "polygon" else sketch.line)(name, at(points))
        case "rect":
            x, y, w, h = (number.get(k, 0.0) for k in ("x", "y", "width", "height"))
            sketch.area(name, at([(x, y), (x + w, y), (x + w, y + h), (x, y + h)]))
        case "path":
            _path(sketch, name, [(at(p), closed) for p, closed in _strokes(element.get("d", "")) if p])
        case "text":
            text = "".join(element.itertext()).strip()
            if text and name != "label":
                sketch.word(text, at([(number.get("x", 0.0), number.get("y", 0.0))])[0])
        case _:
            for child in element:
                _walk(sketch, child, matrix, name, depth + 1)


def _path(sketch: Sketch, name: str, strokes: list[tuple[list[Point], bool]]) -> None:
    """The parts of a path: closed ones inside the first are its holes."""
    closed = [points for points, done in strokes if done and len(points) > 2]
    if closed:
        sketch.area(name, closed[0], closed[1:])
    for points, done in strokes:
        if not (done and len(points) > 2):
            sketch.line(name, points)


def _strokes(text: str) -> Iterator[tuple[list[Point], bool]]:
    """The polylines of a path, and whether they are closed."""
    points: list[Point] = []
    x = y = 0.0
    for letter, rest in _COMMAND.findall(text):
        kind, relative = letter.upper(), letter.islower()
        if kind == "Z":
            if points:
                yield points, True
                x, y = points[0]
            points = []
            continue
        values = [float(v) for v in _NUMBER.findall(rest)]
        step = _ARGUMENTS[kind]
        for k in range(0, len(values) - step + 1, step):
            part = values[k : k + step]
            if kind == "H":
                x = part[0] + (x if relative else 0)
            elif kind == "V":
                y = part[0] + (y if relative else 0)
            else:
                x, y = part[-2] + (x if relative else 0), part[-1] + (y if relative else 0)
            if kind == "M" and k == 0:
                if len(points) > 1:
                    yield points, points[0] == points[-1]
                points = [(x, y)]
            else:
                points = [*(points or [(x, y)]), (x, y)]
    if len(points) > 1:
        yield points, points[0] == points[-1]


def _matrix(text: str) -> Matrix:
    """The product of transforms."""
    found = np.eye(3)
    for kind, rest in re.findall(r"(\w+)\s*\(([^)]*)\)", text):
        v = [float(n) for n in _NUMBER.findall(rest)]
        one = np.eye(3)
        match kind:
            case "matrix":
                one[:2] = np.array(v).reshape(3, 2).T
            case "translate":
                one[:2, 2] = v[0], v[1] if len(v) > 1 else 0.0
            case "scale":
                one[0, 0], one[1, 1] = v[0], v[1] if len(v) > 1 else v[0]
            case "rotate":
                a = math.radians(v[0])
                one[:2, :2] = [[math.cos(a), -math.sin(a)], [math.sin(a), math.cos(a)]]
                if len(v) > 2:
                    centre = np.array(v[1:3])
                    one[:2, 2] = centre - one[:2, :2] @ centre
            case _:
                raise ValueError(kind)
        found = found @ one
    return found


# -- writing ----------------------------------------------------------------------------------------------


def write_svg(plan: Plan, path: Path) -> None:
    """A drawing that browsers show and vector programs edit: groups of rooms, walls, doors, windows and names."""
    x0, y0, x1, y1 = plan.bounds
    size = max(x1 - x0, y1 - y0)
    rim, thick = 0.06 * size, size / 90
    scale = f' data-metres-per-unit="{plan.metres!r}"' if plan.metres else ""
    scale += f' data-step="{plan.step!r}"' if plan.step else ""
    box = f"{x0 - rim:g} {y0 - rim:g} {x1 - x0 + 2 * rim:g} {y1 - y0 + 2 * rim:g}"
    side = 600 / (size + 2 * rim)
    wide, high = ((v + 2 * rim) * side for v in (x1 - x0, y1 - y0))
    rows = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{box}" width="{wide:.0f}" height="{high:.0f}"{scale}>',
        '<g id="rooms" stroke="none" fill-rule="evenodd">',
    ]
    for room in plan.rooms:
        d = " ".join(_d(ring) + " Z" for ring in (room.outline, *room.holes))
        rows.append(
            f'<path data-category="{escape(room.category)}" d="{d}" fill="{colour_of(room.category)}"/>'
        )
    rows.append(f'</g>\n<g id="wall" stroke="{INK}" stroke-width="{thick:g}" stroke-linecap="square">')
    rows += [_line(a, b) for a, b in plan.walls()]
    rows.append("</g>")
    for kind, colour, width in (
        ("door", "#ffffff", 1.05 * thick),
        ("window", GLASS, thick / 2),
        ("opening", "none", 0),
    ):
        rows.append(f'<g id="{kind}" stroke="{colour}" stroke-width="{width:g}">')
        rows += [_line(o.a, o.b) for o in plan.openings if o.kind == kind]
        rows.append("</g>")
    rows.append(f'<g id="icon" fill="none" stroke="{LEAF}" stroke-width="{thick / 4:g}">')
    rows += [_swing(o.a, o.b) for o in plan.openings if o.kind == "door"]
    rows.append(
        f'</g>\n<g id="label" font-family="sans-serif" font-size="{size / 36:g}" text-anchor="middle" fill="{INK}">'
    )
    for room in plan.rooms:
        place = room.polygon.representative_point()
        lines = (room.category.replace("_", " "), area_in_words(plan, room.area))
        rows += [
            f'<text x="{place.x:g}" y="{place.y + k * size / 30:g}">{escape(line)}</text>'
            for k, line in enumerate(lines)
        ]
    rows.append("</g>\n</svg>\n")
    path.write_text("\n".join(rows), encoding="utf-8")


def _d(points: Any) -> str:
    return "M " + " L ".join(f"{x!r} {y!r}" for x, y in points)


def _line(a: Point, b: Point) -> str:
    return f'<line x1="{a[0]!r}" y1="{a[1]!r}" x2="{b[0]!r}" y2="{b[1]!r}"/>'


def _swing(a: Point, b: Point) -> str:
    """A door, open by a quarter."""
    end = a[0] - (b[1] - a[1]), a[1] + (b[0] - a[0])
    r = math.dist(a, b)
    return f'<path d="M {a[0]:g} {a[1]:g} L {end[0]:g} {end[1]:g} A {r:g} {r:g} 0 0 0 {b[0]:g} {b[1]:g}"/>'
