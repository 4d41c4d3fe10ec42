"""Shapes: what their reader is asked for, and how fine a grid the time allows.

A network over a grid of side n costs about n³ a step, and twice as many steps do not make up for a grid that is too
coarse to show what is there: 24 cells show furniture, 32 to 64 its details.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kuosan.errors import UserError
from kuosan.evaluation.found import Found
from kuosan.modalities import ShapeModality
from kuosan.recipes import machine
from kuosan.recipes.schema import Recipe
from kuosan.training.budget import Budget

if TYPE_CHECKING:
    from kuosan.recipes.measures import Items

GRIDS = ((4 * 3600, 64), (3600, 48), (600, 32))  # seconds on an accelerator, most cells a side
SLOWER = 30  # how many times longer a CPU takes


def cells(recipe: Recipe) -> int:
    """Most cells a side of a grid of surfaces, unless somebody asks."""
    seconds = Budget.parse(recipe.budget).seconds or 0.0
    worth = seconds / (SLOWER if machine.device().type == "cpu" else 1)
    return next((side for least, side in GRIDS if worth >= least), 24)


def options(recipe: Recipe) -> dict[str, Any]:
    """The options of `gather_shapes`.

    Raises:
        UserError: a scale of plans.
    """
    data = recipe.data
    if isinstance(data.scale, float):
        raise UserError(
            f"data.scale={data.scale:g} is metres of a unit of plans: of shapes it is common or each"
        )
    side = data.size if data.size is None or isinstance(data.size, int) else max(data.size)
    return {"side": side, "cells": cells(recipe), "scale": data.scale, "up": data.up, "mirror": data.mirror}


def measure(found: Found, items: Items) -> None:
    """What is measured of shapes beside what holds for every dense state."""
    from kuosan.evaluation.shape import evaluate_shapes

    assert isinstance(items.modality, ShapeModality)
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
