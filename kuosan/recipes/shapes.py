"""Shapes: what their reader is asked for, and how fine a grid the time allows.

A network over a grid of side n costs about n³ a step, and twice as many steps do not make up for a grid that is too
coarse to show what is there: 24 cells show furniture, 32 to 64 its details. Of points attention costs their number
squared: `points_form.POINTS` show furniture, and more its edges.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kuosan.errors import UserError
from kuosan.evaluation.found import Found
from kuosan.modalities import ShapesModality
from kuosan.modalities.points_form import POINTS
from kuosan.modalities.shape_form import CELLS
from kuosan.modalities.shape_vox import COLOURS
from kuosan.recipes import machine
from kuosan.recipes.schema import Recipe
from kuosan.training.budget import Budget

if TYPE_CHECKING:
    from kuosan.recipes.measures import Items

GRIDS = ((4 * 3600, 64), (3600, 48), (600, 32))  # seconds on an accelerator, most cells a side
MOST_VALUES = COLOURS + 1
CLOUDS = ((3600, 2048), (600, 1024))  # seconds on an accelerator, points of a cloud
SLOWER = 30  # how many times longer a CPU takes


def cells(recipe: Recipe) -> int:
    """Most cells a side of a grid of surfaces, unless somebody asks."""
    return next((side for least, side in GRIDS if _worth(recipe) >= least), CELLS)


def points(recipe: Recipe) -> int:
    """Points of a cloud, unless somebody asks."""
    return next((count for least, count in CLOUDS if _worth(recipe) >= least), POINTS)


def _worth(recipe: Recipe) -> float:
    """Seconds of an accelerator that the budget is worth."""
    seconds = Budget.parse(recipe.budget).seconds or 0.0
    return seconds / (SLOWER if machine.device().type == "cpu" else 1)


def options(recipe: Recipe) -> dict[str, Any]:
    """The options of `gather_shapes`.

    Raises:
        UserError: a scale of plans, or more values than colours can be told apart.
    """
    data = recipe.data
    if data.form in ("voices", "roll"):
        raise UserError(f"data.form={data.form} is of music: of shapes it is distance, voxels or points")
    if data.form == "points" and data.vocabulary != "auto":
        raise UserError("data.vocabulary is of voxels, and data.form=points has none: leave one of them away")
    values = data.vocabulary
    if values != "auto" and not 2 <= values <= MOST_VALUES:
        raise UserError(
            f"data.vocabulary={values} is no number of values of a voxel: give 2 to {MOST_VALUES}, of which one is "
            "emptiness and the others are colours"
        )
    if isinstance(data.scale, float):
        raise UserError(
            f"data.scale={data.scale:g} is metres of a unit of plans: of shapes it is common or each"
        )
    side = data.size if data.size is None or isinstance(data.size, int) else max(data.size)
    return {
        "side": side, "cells": cells(recipe), "scale": data.scale, "up": data.up, "mirror": data.mirror,
        "form": "voxels" if of_tokens(recipe) else "points" if data.form == "points" else "distance",
        "points": points(recipe), "colours": None if values == "auto" else values - 1,
    }  # fmt: skip


def of_tokens(recipe: Recipe) -> bool:
    """Whether shapes become voxels: where that is asked for, or leaves that only those have are set."""
    own = recipe.process.discrete or recipe.network.kind == "cells"
    return recipe.data.form == "voxels" or (own and recipe.data.form == "auto")


def measure(found: Found, items: Items) -> None:
    """What is measured of shapes beside what holds for every dense state."""
    from kuosan.evaluation.shape import evaluate_shapes

    assert isinstance(items.modality, ShapesModality)
    evaluate_shapes(
        found,
        items.modality,
        items.samples,
        items.reference,
        items.floor,
        items.training,
        items.heldout,
        items.note,
    )
