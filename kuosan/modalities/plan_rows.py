"""Plans as rows of lines and boxes: (x1, y1, x2, y2, what), the form of Raster-to-Vector (Liu et al. 2017).

A plan is a line of JSON with `rows`, or a text file of such rows. "wall" and "door" are lines; everything else is a
box: a fitting, or the place of a room's name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from kuosan.modalities.base import Unreadable
from kuosan.modalities.plan_raw import Kind
from kuosan.modalities.plan_walls import Drawing, Seed, Segment
from kuosan.modalities.plan_words import WALL, category, kind_of_part, part_of

_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?|[Nn]a[Nn]|[-+]?[Ii]nf\w*"
_ROW = rf"\[\s*(?:(?:{_NUMBER}|NaN)\s*,\s*){{4}}\"[^\"]{{1,60}}\""
# Any row of a plan tells it, as the first may be the one that is wrong.
_JSON = re.compile(rf'"rows"\s*:\s*\[(?:\s*\]|.*?{_ROW})'.encode(), re.S)
_TEXT = re.compile(
    rf"^[^\S\n]*(?:(?:{_NUMBER})[\s,;]+){{4}}[A-Za-z_]\w*(?:[\s,;]+\d+)*[^\S\n]*$".encode(), re.M
)


def is_rows(head: bytes) -> bool:
    """Whether a text file that begins so holds plans as rows."""
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    if start[:1] == b"{":
        return _JSON.search(head) is not None
    lines = [line for line in start.splitlines()[:4] if line.strip()]
    return bool(lines) and all(_TEXT.match(line) for line in lines[: max(1, len(lines) - 1)])


def read_rows(path: Path) -> Iterator[Drawing | Unreadable]:
    """Every drawing of a file, one after the other; what cannot be read in its place.  Raises `Unreadable`."""
    try:
        with path.open(encoding="utf-8-sig", errors="replace") as file:
            first = file.readline()
            file.seek(0)
            if first.lstrip().startswith("{"):
                yield from _lines(file)
                return
            rows = [re.split(r"[\s,;]+", line.strip()) for line in file if line.strip()]
    except OSError as error:
        raise Unreadable(f"it cannot be read ({error.strerror})", path) from None
    yield drawing_of(rows, "")


def _lines(file: Iterable[str]) -> Iterator[Drawing | Unreadable]:
    for number, line in enumerate(file, 1):
        if not line.strip():
            continue
        try:
            tree: Any = json.loads(line)
            if not isinstance(tree, dict) or not isinstance(tree.get("rows"), list):
                raise ValueError
        except (ValueError, RecursionError):
            yield Unreadable(f"line {number} is no plan in JSON")
            continue
        name = str(tree.get("id", tree.get("name", number)))
        metres = tree.get("metres_per_unit")
        try:
            yield drawing_of(tree["rows"], name, None if metres is None else float(metres))
        except Unreadable as error:
            yield Unreadable(f"line {number}: {error.reason}")
        except (TypeError, ValueError):
            yield Unreadable(f"line {number}: its scale is no number")


def drawing_of(rows: Iterable[Any], name: str, metres: float | None = None) -> Drawing:
    """The drawing of rows.  Raises `Unreadable`."""
    walls: list[Segment] = []
    leaves: list[tuple[Kind, Segment]] = []
    seeds: list[Seed] = []
    for row in rows:
        try:
            x1, y1, x2, y2 = (float(v) for v in row[:4])
            word = str(row[4])
        except (TypeError, ValueError, IndexError, KeyError):
            raise Unreadable("a row of it is not x1, y1, x2, y2 and a word") from None
        part = part_of(word)
        if part == WALL:
            walls.append(((x1, y1), (x2, y2)))
        elif part is not None and (kind := kind_of_part(part)):
            leaves.append((kind, ((x1, y1), (x2, y2))))
        elif part is None:
            seeds.append(Seed(category(word), (min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2))))
    return Drawing(tuple(walls), tuple(leaves), tuple(seeds), metres=metres, name=name)
