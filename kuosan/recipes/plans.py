"""The recipe for floor plans: masked diffusion of rooms on a grid of walls, by a transformer over a lattice.

What ``auto`` means is what it means for texts, but for the network (`networks.lattice`), one position of which is a
cell with what stands in its edges.
"""

from __future__ import annotations

from typing import Any

from kuosan.errors import UserError
from kuosan.modalities import PlanModality, load
from kuosan.networks import choose_token_network
from kuosan.networks.choose_tokens import heads_of
from kuosan.recipes.schema import Recipe
from kuosan.recipes.settled import Question, Settled
from kuosan.recipes.token_leaves import Leaves, check_tokens, own_leaves, token_leaves

MOST_STEPS = 64  # of a sample, unless asked for


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
    check_tokens(recipe, source, "plans")
    for part, known in (("network", "lattice"), ("process", "masked")):
        kind = getattr(recipe, part).kind
        if kind not in ("auto", known):
            raise UserError(f"{part}={kind} is not for {source}, which holds plans: leave it away")
    data = load(
        source,
        modality=recipe.data.modality,
        like=start.modality if start else None,
        columns=start.columns if start else None,
        options={"plan": options(recipe)},
    )
    if not len(data.train):
        raise UserError(f"{source} holds nothing to train on: give a folder with plans")
    leaves = Leaves.of(recipe)
    tree, choices = leaves.tree, leaves.choices
    modality = data.modality
    assert isinstance(modality, PlanModality)
    leaves.decide("process", "kind", "masked", "any rooms, any outline can be given, and the rest is drawn")
    if start:
        network = start.of.network
        own = own_leaves(recipe, "plans")
        if other := sorted(k for k, v in own.items() if network.get(k) != v):
            raise UserError(
                f"network.{other[0]} is that of {recipe.init}, whose weights it starts from: leave it away"
            )
        choices.append(("network", network["kind"], f"from {recipe.init}"))
    else:
        network = _network(asked, recipe, modality, data, leaves)
    token_leaves(
        leaves, network, length=modality.length // modality.form.lanes, items=len(data.train), started=bool(start),
        most_steps=MOST_STEPS, what="plans", varied_by="data.mirror",
    )  # fmt: skip
    tree["data"] |= {
        "modality": "plan", "path": str(source.resolve()), "mirror": modality.mirror, "max_side": "auto",
    }  # fmt: skip
    return Settled(data, Recipe.model_validate(tree), network, choices)


def _network(
    asked: Question, recipe: Recipe, modality: PlanModality, data: Any, leaves: Leaves
) -> dict[str, Any]:
    """The size that a transformer over the lattice should have."""
    form, conditions = modality.form, {name: len(values) for name, values in data.columns.items()}
    places = form.length // form.lanes
    spec, reasons = choose_token_network(
        form.size * form.lanes, places, conditions, seconds=asked.seconds, device=asked.device,
        tokens=len(data.train) * places, speed=asked.speed,
    )  # fmt: skip
    given = own_leaves(recipe, "plans")
    leaves.choices.extend(r for r in reasons if r[0] == "dropout" or (r[0] == "size" and not given))
    own = {k: spec[k] for k in ("conditions", "dim", "depth", "heads", "dropout")} | given
    if "dim" in given and "heads" not in given:
        own["heads"] = heads_of(own["dim"])
    leaves.choices.extend((f"network.{k}", v, "asked for") for k, v in given.items())
    return {
        "kind": "lattice", "size": form.size, "rows": form.rows + 1, "columns": form.columns + 1, "voices": form.lanes,
        "values": form.values, "areas": [list(a) for a in form.areas], "length": form.length, **own,
    }  # fmt: skip
