"""An outline that is given: its corners are lines of the grid, and how rows and columns fill what is between them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import shapely
import torch
from torch import Tensor

from kuosan.errors import UserError
from kuosan.modalities.base import Unreadable
from kuosan.modalities.plan_files import read_plan
from kuosan.modalities.plan_form import Form, NoPlace


def outline_of(form: Form, given: Path | str | None) -> shapely.Geometry | None:
    """The outline in steps, from its upper left corner.

    Raises:
        UserError: a file that is none, is in no scale, or has too many corners.
    """
    if given is None:
        return None
    path = Path(given)
    if not path.is_file():
        raise UserError(
            f"there is no file {path}: give --outline a GeoJSON, DXF or SVG file with one outline"
        )
    try:
        plan = read_plan(path)
        unit = form.unit(plan)
    except (Unreadable, NoPlace) as error:
        raise UserError(f"--outline {path}: {getattr(error, 'reason', error)}") from None
    shape = plan.outline
    if shape.geom_type != "Polygon":
        raise UserError(
            f"--outline {path} has {len(shape.geoms)} parts, and a plan has one outline: give one"
        )
    x0, y0, _, _ = shape.bounds
    corners = np.round((np.array(shape.exterior.coords) - (x0, y0)) / unit)
    flat = (np.abs(np.diff(corners, axis=0)) < 1).any(1)
    if not flat.all():
        raise UserError(
            f"--outline {path} has walls that are not parallel to the axes: give one whose walls are"
        )
    found = shapely.Polygon(corners)
    for axis, most in ((0, form.columns), (1, form.rows)):
        need = sum(count for _, count in slabs_of(form, found, axis, least=True))
        if need > most:
            raise UserError(
                f"--outline {path} needs a grid of {need} lines, and the run has {most}: give a simpler or smaller one"
            )
    return found


def slabs_of(form: Form, outline: shapely.Geometry, axis: int, least: bool = False) -> list[tuple[int, int]]:
    """Between two corners each: how wide, and how many columns (rows) it is divided into."""
    lines = np.unique(np.array(outline.exterior.coords)[:, axis]).astype(int)
    widths = np.diff(lines).tolist()
    counts = [-(-w // form.widest) for w in widths]
    wanted = 0 if least else round(0.75 * (form.columns if axis == 0 else form.rows))
    while sum(counts) < wanted:
        k = int(np.argmax([w / c for w, c in zip(widths, counts, strict=True)]))
        if widths[k] <= counts[k]:
            break
        counts[k] += 1
    return list(zip(widths, counts, strict=True))


def around(
    form: Form,
    outline: shapely.Geometry,
    lines: list[list[tuple[int, int]]],
    given: Tensor,
    permitted: Tensor,
) -> tuple[Tensor, Tensor]:
    """What is known of a grid within an outline, and what may be written: nothing outside, no outside within."""
    ends = [np.unique(np.array(outline.exterior.coords)[:, axis]) for axis in (0, 1)]
    middles = [
        np.repeat((e[:-1] + e[1:]) / 2, [count for _, count in slabs])
        for e, slabs in zip(ends, lines, strict=True)
    ]
    gx, gy = np.meshgrid(*middles)
    inside = torch.zeros(form.rows, form.columns, dtype=torch.bool)
    inside[: gx.shape[0], : gx.shape[1]] = torch.from_numpy(shapely.contains_xy(outline, gx, gy))
    given, table = given.clone(), permitted.clone()
    given[:, 1:, 1:, 0][:, ~inside] = 0
    given[:, 0, 1 + gx.shape[1] :] = 0
    given[:, :, 1 + gx.shape[1] :] = 0
    given[:, 1 + gx.shape[0] :] = 0
    cells = table[1:, 1:, 0]
    cells[inside, 0] = False
    cells[~inside] = False
    cells[~inside, 0] = True
    table[0, 1 : 1 + gx.shape[1], 0, 0] = False
    table[1 : 1 + gx.shape[0], 0, 0, 0] = False
    return given, table


def filled(widths: list[int], total: int, widest: int) -> list[int]:
    """Whole widths, in these proportions as nearly as can be, that add up to a total."""
    room = np.array(widths, dtype=float)
    exact = room / room.sum() * total
    found = np.clip(np.floor(exact), 1, widest).astype(int)
    while found.sum() != total:
        if found.sum() < total:
            found[int(np.argmax(np.where(found < widest, exact - found, -np.inf)))] += 1
        else:
            found[int(np.argmax(np.where(found > 1, found - exact, -np.inf)))] -= 1
    return [int(v) for v in found]
