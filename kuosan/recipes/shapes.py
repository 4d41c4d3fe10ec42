"""Shapes: what their reader is asked for, and how fine a grid the time allows.

A network over a grid of side n costs about n³ a step, and twice as many steps do not make up for a grid that is too
coarse to show what is there: 24 cells show furniture, 32 to 64 its details.
"""

from __future__ import annotations

from typing import Any

from kuosan.recipes import machine
from kuosan.recipes.schema import Recipe
from kuosan.training.budget import Budget

GRIDS = ((4 * 3600, 64), (3600, 48), (600, 32))  # seconds on an accelerator, most cells a side
SLOWER = 30  # how many times longer a CPU takes


def cells(recipe: Recipe) -> int:
    """Most cells a side of a grid of surfaces, unless somebody asks."""
    seconds = Budget.parse(recipe.budget).seconds or 0.0
    worth = seconds / (SLOWER if machine.device().type == "cpu" else 1)
    return next((side for least, side in GRIDS if worth >= least), 24)


def options(recipe: Recipe) -> dict[str, Any]:
    """The options of `gather_shapes`."""
    data = recipe.data
    side = data.size if data.size is None or isinstance(data.size, int) else max(data.size)
    return {"side": side, "cells": cells(recipe), "scale": data.scale, "up": data.up, "mirror": data.mirror}
