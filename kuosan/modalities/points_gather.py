"""All shapes of a folder as points, holding one at a time besides the points that are kept of each.

As `shape_gather`, in two passes: the first says what there is, the second takes the points, `points_form.KEPT` times as
many as a state has where a shape has so many, of which training sees others each time.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from kuosan.modalities.base import Choice, Gathered
from kuosan.modalities.folder import Folder
from kuosan.modalities.points import SIDES, PointsModality
from kuosan.modalities.points_form import POINTS, Bounds, PointsForm, choose_form, points_of
from kuosan.modalities.shape_frame import Points
from kuosan.modalities.shape_gather import (
    about_meshes,
    about_up,
    again,
    check_options,
    choose_mirror,
    files_of,
    gathered,
    survey,
)

COARSE = 8  # cells of the longest side in which shapes are held against their mirror images


def gather_points(
    folder: Folder,
    like: PointsModality | None = None,
    *,
    side: int | None = None,
    points: int = POINTS,
    scale: str = "auto",
    up: str = "auto",
    mirror: str = "auto",
) -> Gathered:
    """Every shape of `folder` in the form of `like`, or in one chosen from the data.

    Args:
        side: points of a state; `points` where nobody says.
        scale, up, mirror: as of `shape_gather.gather_shapes`.

    Raises `UserError` where there is no shape, or an option cannot be.
    """
    check_options(scale, up, mirror)
    up = like.form.up if like else up
    known, _, failed, left_out = survey(folder, up)
    count, kept, told = points_of([k.seen for k in known], like.form.count if like else side, points)
    taken: dict[int, tuple[Points, Bounds]] = {
        i: (shape.points_of(kept), shape.bounds) for i, shape in again(known, up)
    }
    clouds, bounds = zip(*(taken[i] for i in range(len(known))), strict=True)
    choices: list[Choice] = []
    if like is None:
        form, reasons = choose_form(clouds, bounds, count, scale=scale, up=up)
        choices += [told, *reasons, *about_up(files_of(known), up)]
    else:
        form = like.form
    choices += about_meshes(known)
    states = [form.states(*one) for one in zip(clouds, bounds, strict=True)]
    storage = torch.from_numpy(np.stack(states))
    if like is None:
        axes, why = choose_mirror(known, mirror, lambda: _shared(form, storage))
        form = replace(form, mirror=axes)
        choices.append(("mirror", axes or "none", why))
    return gathered(PointsModality(form), storage, known, failed, left_out, choices)


def _shared(form: PointsForm, x: Tensor) -> dict[str, float]:
    """The share of cells with points in which a mirror image has some too."""
    inside = form.density(x, COARSE)[:, 0] > 0.5
    shared = {}
    for axis, number in SIDES.items():
        turned = x.clone()
        turned[:, number] *= -1
        other = form.density(turned, COARSE)[:, 0] > 0.5
        either = (inside | other).sum((1, 2, 3))
        shared[axis] = float(((inside & other).sum((1, 2, 3)) / either.clamp_min(1)).mean())
    return shared
