"""Shapes in arrays: .npy and .npz, alone or many in one file.

    xyz (N, 3), offsets (n + 1,), rgb (N, 3)      coloured voxels, shape i is offsets[i] … offsets[i + 1]     (1)
    (x, y, z), (n, x, y, z)                       voxels: true, or from half of the greatest value on         (2)
    (x, y, z, 3 or 4), (n, x, y, z, 3 or 4)       the same with colours; black or transparent is empty        (3)
    (n, s³/8) of bytes                            the same as (2), eight voxels in a byte (`np.packbits`)     (4)
    (p, 3), (n, p, 3), (… 6)                      points; three more are normals, which are not used          (5)
    numbers of both signs as (2)                  signed distances in cells, of the sign outside that a corner has (6)

z is up unless told.  What Kuosan writes also has `cell` (units), `margin` (cells below the floor) and `up`.
Other arrays of n values become columns; `names` name the shapes, and `classes` or labels are their class.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kuosan.modalities.arrays import class_texts, load_arrays, texts
from kuosan.modalities.base import Unreadable
from kuosan.modalities.folder import CLASS
from kuosan.modalities.shape_frame import Frame, to_grid, to_space, turned, turned_volume
from kuosan.modalities.shape_mesh_file import FEWEST_POINTS, cloud
from kuosan.modalities.shape_raw import Blocks, Field, Shape
from kuosan.modalities.shape_told import PLACES, SHAPES, layout
from kuosan.modalities.tables import Row

CLASSES = ("classes", "class", "labels", "label", "y")
MOST_SIDE = 1024
Array = NDArray[np.generic]


@dataclass(frozen=True)
class Item:
    """A shape of a file of arrays, by its place there, and what is known of it."""

    name: str
    shape: Shape
    columns: Row = field(default_factory=dict)


def read_items(path: Path, up: str = "auto") -> Iterator[Item]:
    """The shapes of a file, one at a time, whose axis `up` is up.  Raises `Unreadable`."""
    arrays = load_arrays(path)
    names = {name.lower(): name for name in arrays}
    up = str(arrays[names["up"]].reshape(-1)[0]) if "up" in names and arrays[names["up"]].size else up
    place = next(
        (names[word] for word in PLACES if word in names and arrays[names[word]].shape[1:] == (3,)), None
    )
    if place is not None and "offsets" in names:
        shapes, count, used = _sparse(arrays, names, place, path, up)
    else:
        known = [
            names[word] for word in (*SHAPES, "x", "data") if word in names and _kind(arrays[names[word]])
        ]
        known = known or [name for name, array in arrays.items() if _kind(array)]
        if not known:
            listed = ", ".join(f"{name} {array.shape}" for name, array in list(arrays.items())[:6])
            raise Unreadable(f"it holds no array of voxels, distances or points ({listed})", path)
        used = {known[0]}
        shapes, count = _dense(arrays[known[0]], arrays, names, path, up)
    rows, own = _rows({n: a for n, a in arrays.items() if n not in used}, count)
    digits = len(str(max(0, count - 1)))
    for i, shape in enumerate(shapes):
        yield Item("" if count == 1 else own[i] if own else f"{i:0{digits}d}", shape, rows[i])


def write_field(field: Field, path: Path) -> None:
    """A field as `read_items` reads it, to the bit."""
    frame = field.frame
    facts: dict[str, Any] = {"cell": frame.cell, "margin": frame.margin, "up": "z"}
    np.savez_compressed(path, sdf=to_space(field.values), **facts)


def _kind(array: Array) -> str:
    kind = layout(array.shape, array.dtype)
    few = array.dtype.kind == "f" and array.ndim in (2, 3) and array.shape[-1] in (3, 6)
    return "points" if few and array.shape[-2] >= FEWEST_POINTS else kind


def _sparse(
    arrays: dict[str, Array], names: dict[str, str], place: str, path: Path, up: str
) -> tuple[Iterator[Shape], int, set[str]]:
    xyz, offsets = arrays[place], arrays[names["offsets"]].astype(np.int64).reshape(-1)
    paint = next((arrays[names[w]] for w in ("rgb", "colors", "colours") if w in names), None)
    if len(offsets) and offsets[-1] != len(xyz):
        offsets = np.append(offsets, len(xyz))
    if len(offsets) < 2 or offsets[0] != 0 or (np.diff(offsets) < 0).any():
        raise Unreadable(f"its offsets do not divide its {len(xyz):,} voxels into shapes", path)
    if paint is not None and paint.shape != xyz.shape:
        raise Unreadable(f"its {len(xyz):,} voxels have colours of shape {paint.shape}", path)

    def shapes() -> Iterator[Shape]:
        for start, stop in zip(offsets, offsets[1:], strict=False):
            tint = None if paint is None else paint[start:stop].astype(np.uint8)
            yield Blocks.of(turned(xyz[start:stop].astype(np.float64), up).astype(np.int64), tint)

    spelled = {names[w] for w in ("offsets", "rgb", "colors", "colours") if w in names}
    return shapes(), len(offsets) - 1, {place} | spelled


def _dense(
    array: Array, arrays: dict[str, Array], names: dict[str, str], path: Path, up: str
) -> tuple[Iterator[Shape], int]:
    kind = _kind(array)
    if kind == "packed":
        side = round((8 * array.shape[1]) ** (1 / 3))
        array, kind = np.unpackbits(array, axis=1).reshape(-1, side, side, side), "voxels"  # type: ignore[arg-type]
    one = array.ndim == {"points": 2, "colours": 4}.get(kind, 3)
    stack = array[None] if one else array
    if kind in ("voxels", "box", "colours") and max(stack.shape[1:4]) > MOST_SIDE:
        raise Unreadable(f"its voxels are {stack.shape[1:4]}, more than {MOST_SIDE} along a side", path)
    number: dict[str, float] = {
        word: float(arrays[names[word]].reshape(-1)[0])
        for word in ("cell", "margin")
        if word in names and arrays[names[word]].size == 1 and arrays[names[word]].dtype.kind in "iuf"
    }

    def shapes() -> Iterator[Shape]:
        for part in stack:
            if kind == "points":
                yield cloud(turned(part[:, :3].astype(np.float64), up), path)
            else:
                yield _volume(turned_volume(part, up), kind, number, path)

    return shapes(), len(stack)


def _volume(part: Array, kind: str, number: dict[str, float], path: Path) -> Shape:
    cell = number.get("cell", 1.0)
    if part.dtype.kind == "f" and not np.isfinite(part).all():
        raise Unreadable("its values are not all finite", path)
    if kind == "colours":
        scale = 255 if part.dtype.kind == "f" else 1
        paint = np.clip(np.rint(part[..., :3] * scale), 0, 255).astype(np.uint8)
        full = np.asarray(part[..., 3].astype(np.float64) > 0 if part.shape[-1] == 4 else paint.any(-1), bool)
        return Blocks.of_grid(to_grid(full), to_grid(paint), cell)
    if part.dtype.kind in "if" and part.min() < 0 < part.max():
        values = to_grid(part).astype(np.float32)
        values = values if values[0, 0, 0] > 0 else -values  # a corner of the grid is outside
        sides = (values.shape[0], values.shape[1], values.shape[2])
        return Field(values, Frame(sides, cell, number.get("margin", 0.0)))
    return Blocks.of_grid(to_grid(part.astype(np.float64) >= max(float(part.max()), 1e-12) / 2), None, cell)


def _rows(arrays: dict[str, Array], count: int) -> tuple[list[Row], list[str]]:
    """What other arrays say of each shape, and their names where these tell them apart."""
    columns: dict[str, list[str | None]] = {}
    for name, array in arrays.items():
        found = class_texts(array, count) if name.lower() in CLASSES else None
        if found is None and array.ndim == 1 and len(array) == count and array.dtype.kind in "biufUS":
            found = texts(array)
        if found is not None:
            columns[CLASS if name.lower() in CLASSES else name] = found
    names = next((columns.pop(word) for word in ("names", "name", "ids") if word in columns), [])
    told = [re.sub(r"[/\\]", "_", name) for name in names if name]
    rows = [{name: values[i] for name, values in columns.items()} for i in range(count)]
    return rows, told if len(set(told)) == count else []
