"""The recipe for floor plans: masked diffusion of rooms on a grid of walls, by a transformer over a lattice.

What ``auto`` means is what it means for texts, but for the network (`networks.lattice`), one position of which is a
cell with what stands in its edges.
"""

from __future__ import annotations

from typing import Any

from kuosan.errors import UserError
from kuosan.modalities import PlanModality, load
from kuosan.recipes.masked import Tokens, check_masked, settle_masked
from kuosan.recipes.schema import Recipe
from kuosan.recipes.settled import Question, Settled


def options(recipe: Recipe) -> dict[str, Any]:
    """The options of `gather_plans`.

    Raises:
        UserError: a scale of shapes.
    """
    scale = recipe.data.scale
    if isinstance(scale, str) and scale != "auto":
        raise UserError(f"data.scale={scale} is of shapes: give metres of a unit of the plans, such as 0.01")
    return {"scale": None if isinstance(scale, str) else scale, "mirror": recipe.data.mirror}


def settle(asked: Question) -> Settled:
    """Read the plans and decide every leaf.

    Raises:
        UserError: unusable data, or leaves that do not fit them.
    """
    source, recipe, start = asked.source, asked.recipe, asked.start
    check_masked(recipe, source, "plans", "lattice")
    data = load(
        source,
        modality=recipe.data.modality,
        like=start.modality if start else None,
        columns=start.columns if start else None,
        options={"plan": options(recipe)},
    )
    if not len(data.train):
        raise UserError(f"{source} holds nothing to train on: give a folder with plans")
    modality = data.modality
    assert isinstance(modality, PlanModality)
    form = modality.form
    places = form.length // form.lanes
    network = {
        "kind": "lattice", "size": form.size, "rows": form.rows + 1, "columns": form.columns + 1, "voices": form.lanes,
        "values": form.values, "areas": [list(a) for a in form.areas], "length": form.length,
    }  # fmt: skip
    tokens = Tokens(
        "plans", "any rooms, any outline can be given, and the rest is drawn", network, places, form.size * form.lanes,
        places, "data.mirror", {"mirror": modality.mirror},
    )  # fmt: skip
    return settle_masked(asked, data, tokens)
