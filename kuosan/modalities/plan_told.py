"""Whether a file holds plans, where its name does not say it: rows of lines and boxes, GeoJSON, walls in JSON."""

from __future__ import annotations

import re
from pathlib import Path

from kuosan.modalities.plan_rows import is_rows

HEAD = 65_536  # bytes that tell
TEXTS = (".jsonl", ".txt", ".tsv", ".csv")
_GEOJSON = re.compile(rb'"type"\s*:\s*"(FeatureCollection|Feature|GeometryCollection|Polygon|MultiPolygon)"')


def is_geojson(head: bytes) -> bool:
    """Whether a JSON file that begins so holds shapes of GeoJSON (RFC 7946)."""
    return head.lstrip()[:1] == b"{" and _GEOJSON.search(head) is not None


def is_mlstruct(head: bytes) -> bool:
    """Whether a JSON file that begins so holds rectangles of walls, by floors (MLSTRUCT-FP)."""
    return head.lstrip()[:1] == b"{" and b'"rect"' in head[:200] and b'"floorID"' in head


def holds_plans(path: Path, kind: str | None, asked: bool) -> bool:
    """Whether a file of this ``kind`` (by its name) holds plans; pictures do, where somebody ``asked`` for plans."""
    suffix = path.suffix.lower()
    if asked and kind == "image":
        return True
    if suffix not in (*TEXTS, ".json"):
        return False
    try:
        with path.open("rb") as file:
            head = file.read(HEAD)
    except OSError:
        return False
    return (is_geojson(head) or is_mlstruct(head)) if suffix == ".json" else is_rows(head)
