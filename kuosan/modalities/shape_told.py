"""Whether a file of arrays holds shapes, told by the names and the axes of its arrays: nothing is decoded.

A folder of arrays alone is taken for pictures; these arrays cannot be any (`shape_arrays` has the forms).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from kuosan.modalities.array_headers import shapes
from kuosan.modalities.base import Unreadable

SHAPES = ("voxels", "voxel", "occupancy", "occupancies", "sdf", "tsdf", "points", "point_clouds", "clouds")
PLACES = ("xyz", "positions", "coords")
SMALLEST = 8  # side of a cube of voxels
MANY_POINTS = 256  # below this, (n, p, 3) may as well be the joints of a skeleton


def holds_shapes(path: Path) -> bool:
    """Whether the names and the axes of the arrays in a file are those of shapes and of nothing else."""
    try:
        found = {name.lower(): (shape, dtype) for name, shape, dtype in shapes(path)}
    except Unreadable:
        return False  # named when it is read
    if any(name in found and found[name][0][1:] == (3,) for name in PLACES) and "offsets" in found:
        return True
    return any(
        (name in SHAPES and layout(shape, dtype) != "")
        or (path.suffix.lower() == ".npy" and _nameless(shape, dtype))
        for name, (shape, dtype) in found.items()
    )


def layout(shape: tuple[int, ...], dtype: Any) -> str:
    """ "voxels", "colours", "points", "packed", or "" for the axes of something else; which need a name to be sure."""
    if dtype.kind not in "biuf" or 0 in shape:
        return ""
    cube = len(shape) in (3, 4) and len(set(shape[-3:])) == 1 and shape[-1] >= SMALLEST
    if cube:
        return "voxels"
    if dtype.kind == "f" and len(shape) in (2, 3) and shape[-1] in (3, 6) and shape[-2] >= MANY_POINTS:
        return "points"
    if (
        dtype == np.uint8
        and len(shape) == 2
        and round((8 * shape[1]) ** (1 / 3)) ** 3 == 8 * shape[1] >= SMALLEST**3
    ):
        return "packed"
    if len(shape) in (3, 4) and shape[-1] > 4:
        return "box"
    return "colours" if len(shape) in (4, 5) and shape[-1] in (3, 4) else ""


def _nameless(shape: tuple[int, ...], dtype: Any) -> bool:
    """Whether an array without a name holds shapes: cubes too deep to be channels of pictures, or points."""
    kind = layout(shape, dtype)
    cubes = kind == "voxels" and shape[-1] > 2 * SMALLEST and (len(shape) == 4 or dtype.kind == "b")
    return cubes or kind == "points"
