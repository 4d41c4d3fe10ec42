"""Plans drawn as people draw them: rooms in a colour for each use, their names and areas, walls, doors, windows."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from kuosan.modalities.plan_raw import Opening, Plan, Point, between

SIDE, MARGIN, SMOOTH = 300, 8, 2
PAPER, INK, GLASS, LEAF = "#ffffff", "#2b2b2b", "#4a90d9", "#8c5a2b"
COLOURS = {
    "bedroom": "#f6d8a8", "living_room": "#fbe9a9", "kitchen": "#f4b6a6", "bathroom": "#a9d4ee", "restroom": "#bfe3f2",
    "washing_room": "#cdd9f4", "balcony": "#cfe8c0", "corridor": "#ece6da", "entrance": "#dcd2c4", "closet": "#ddc9e6",
    "stairs": "#d5d5d5", "shaft": "#9c9c9c", "dining_room": "#f9dcc0", "room": "#eeeeee",
}  # fmt: skip
_OTHERS = ("#f2c6d4", "#c9ecdf", "#e3e8b0", "#d9d0f0", "#f0d9d0", "#cfe2e6")


def colour_of(category: str) -> str:
    """The same for a name, always."""
    number = hashlib.sha256(category.encode()).digest()[0]
    return COLOURS.get(category, _OTHERS[number % len(_OTHERS)])


def area_in_words(plan: Plan, area: float) -> str:
    """Square metres where there is a scale, else a share of the plan."""
    metres = plan.square_metres(area)
    return f"{metres:.1f} m²" if metres is not None else f"{area / max(plan.area, 1e-12):.0%}"


def plan_picture(plan: Plan, side: int = SIDE, words: bool = True) -> Image.Image:
    """A square picture of a plan."""
    big = side * SMOOTH
    image = Image.new("RGB", (big, big), PAPER)
    if not plan.rooms:
        return image.resize((side, side))
    draw = ImageDraw.Draw(image)
    x0, y0, x1, y1 = plan.bounds
    rim = 0.05 * big
    zoom = (big - 2 * rim) / max(x1 - x0, y1 - y0, 1e-12)
    left, top = (big - zoom * (x1 - x0)) / 2, (big - zoom * (y1 - y0)) / 2

    def at(point: Point) -> tuple[float, float]:
        return left + zoom * (point[0] - x0), top + zoom * (point[1] - y0)

    thick = max(2, big // 90)
    for room in sorted(
        plan.rooms, key=lambda r: -r.polygon.envelope.area
    ):  # what stands inside another comes later
        draw.polygon([at(p) for p in room.outline], fill=colour_of(room.category))
    for a, b in plan.walls():
        _line(draw, at(a), at(b), INK, thick)
    for opening, sides in between(plan, 0.02 * max(x1 - x0, y1 - y0)):
        if opening.kind == "opening":
            continue
        a, b = at(opening.a), at(opening.b)
        ground = colour_of(plan.rooms[sides[0]].category) if sides else PAPER
        if opening.kind == "window":
            _line(draw, a, b, PAPER, thick)
            _line(draw, a, b, GLASS, max(1, thick // 2))
        else:
            _line(draw, a, b, ground, thick)
            _leaf(draw, opening, a, b, thick)
    if words:
        _words(draw, plan, at, zoom, big)
    return image.resize((side, side), Image.Resampling.LANCZOS)


def _line(draw: ImageDraw.ImageDraw, a: Point, b: Point, colour: str, thick: int) -> None:
    draw.line([a, b], fill=colour, width=thick)
    if colour == INK:  # square ends, so that corners are closed
        for x, y in (a, b):
            r = thick / 2
            draw.rectangle((x - r, y - r, x + r - 1, y + r - 1), fill=colour)


def _leaf(draw: ImageDraw.ImageDraw, opening: Opening, a: Point, b: Point, thick: int) -> None:
    """A door, open by a quarter."""
    width = math.dist(a, b)
    angle = math.degrees(math.atan2(b[1] - a[1], b[0] - a[0]))
    box = (a[0] - width, a[1] - width, a[0] + width, a[1] + width)
    draw.arc(box, angle, angle + 90, fill=LEAF, width=max(1, thick // 4))
    end = a[0] - (b[1] - a[1]), a[1] + (b[0] - a[0])
    draw.line([a, end], fill=LEAF, width=max(1, thick // 3))


def _words(
    draw: ImageDraw.ImageDraw, plan: Plan, at: Callable[[Point], tuple[float, float]], zoom: float, big: int
) -> None:
    for room in plan.rooms:
        name = room.category.replace("_", " ")
        lines = [name, area_in_words(plan, room.area)]
        shape = room.polygon
        place = shape.centroid if shape.contains(shape.centroid) else shape.representative_point()
        x, y = at((place.x, place.y))
        x0, y0, x1, y1 = shape.bounds
        wide, high = zoom * (x1 - x0) * 0.92, zoom * (y1 - y0) * 0.92
        for text, size in ((lines, big // 34), (lines[:1], big // 34), (lines[:1], big // 48)):
            font = _font(max(6, size))
            boxes = [draw.textbbox((0, 0), line, font=font) for line in text]
            if max(b[2] for b in boxes) <= wide and size * 1.25 * len(text) <= high:
                for k, line in enumerate(text):
                    offset = (k - (len(text) - 1) / 2) * size * 1.25
                    draw.text((x, y + offset), line, fill=INK, font=font, anchor="mm")
                break


@lru_cache(8)
def _font(size: int) -> ImageFont.FreeTypeFont:
    import matplotlib

    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf"), size)


def plan_sheet(raws: Sequence[Plan], columns: int | None = None, scale: int | None = None) -> Image.Image:
    """All of them side by side; ``scale`` enlarges them by a whole number."""
    n = max(1, len(raws))
    columns = columns or max(1, min(n, math.ceil(math.sqrt(n))))
    rows = -(-n // columns)
    side = SIDE * (scale or 1) if n <= 36 or scale else SIDE // 2
    sheet = Image.new("RGB", (columns * (side + MARGIN) + MARGIN, rows * (side + MARGIN) + MARGIN), "#dddddd")
    for i, raw in enumerate(raws):
        place = (MARGIN + i % columns * (side + MARGIN), MARGIN + i // columns * (side + MARGIN))
        sheet.paste(plan_picture(raw, side, words=side >= SIDE), place)
    return sheet
