"""What recipes of masked tokens on a grid have in common: voices of music, rooms of plans, cells of voxels.

A trunk of P positions reads and writes several tokens at each; what ``auto`` means is what it means for texts.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kuosan.errors import UserError
from kuosan.modalities import Dataset
from kuosan.networks import choose_token_network
from kuosan.networks.choose_tokens import heads_of
from kuosan.recipes.schema import Recipe
from kuosan.recipes.settled import Choice, Question, Settled
from kuosan.recipes.token_leaves import SPACED, Leaves, check_tokens, own_leaves, token_leaves

MOST_STEPS = 64  # of a sample, unless asked for


@dataclass(frozen=True)
class Tokens:
    """What the data decide.

    Args:
        what: they are, and why masks suit them.
        network: kind and leaves of the network's specification that they decide.
        places: positions of the trunk, each of which writes so many scores.
        length: tokens of a state that cost a step of training as much as one of a text.
        varied_by: the leaf that varies them.
        data: leaves of the data as they came to be.
        solver: of samples, and why.
    """

    what: str
    why: str
    network: dict[str, Any]
    places: int
    scores: int
    length: int
    varied_by: str
    data: dict[str, Any]
    choices: list[Choice] = field(default_factory=list)
    solver: tuple[str, str] = SPACED


def check_masked(recipe: Recipe, source: Path, what: str, network: str, instead: str = "") -> None:
    """UserError for leaves of other data; what else can be done ``instead`` of another network."""
    check_tokens(recipe, source, what)
    if recipe.network.kind not in ("auto", network):
        raise UserError(
            f"network={recipe.network.kind} is not for {source}, which holds {what}: leave it away{instead}"
        )
    if recipe.process.kind not in ("auto", "masked"):
        raise UserError(
            f"process={recipe.process.kind} is not for {source}, which holds {what}: leave it away"
        )


def settle_masked(asked: Question, data: Dataset, tokens: Tokens) -> Settled:
    """Every leaf.

    Raises:
        UserError: leaves that do not fit.
    """
    recipe, start = asked.recipe, asked.start
    leaves = Leaves.of(recipe)
    leaves.decide("process", "kind", "masked", tokens.why)
    if start:
        network = start.of.network
        own = own_leaves(recipe, tokens.what)
        if other := sorted(k for k, v in own.items() if network.get(k) != v):
            raise UserError(
                f"network.{other[0]} is that of {recipe.init}, whose weights it starts from: leave it away"
            )
        leaves.choices.append(("network", network["kind"], f"from {recipe.init}"))
    else:
        network = _network(asked, data, tokens, leaves)
    token_leaves(
        leaves, network, length=tokens.length, items=len(data.train), started=bool(start), most_steps=MOST_STEPS,
        what=tokens.what, varied_by=tokens.varied_by, solver=tokens.solver,
    )  # fmt: skip
    path = {"path": str(asked.source.resolve()), "max_side": "auto"}
    leaves.tree["data"] |= {"modality": data.modality.name, **path, **tokens.data}
    return Settled(data, Recipe.model_validate(leaves.tree), network, leaves.choices)


def _network(asked: Question, data: Dataset, tokens: Tokens, leaves: Leaves) -> dict[str, Any]:
    """The size that the trunk should have."""
    spec, reasons = choose_token_network(
        tokens.scores, tokens.places, {name: len(values) for name, values in data.columns.items()},
        seconds=asked.seconds, device=asked.device, tokens=len(data.train) * tokens.places, speed=asked.speed,
    )  # fmt: skip
    given = own_leaves(asked.recipe, tokens.what)
    leaves.choices.extend(r for r in reasons if r[0] == "dropout" or (r[0] == "size" and not given))
    own = {k: spec[k] for k in ("conditions", "dim", "depth", "heads", "dropout")} | given
    if "dim" in given and "heads" not in given:
        own["heads"] = heads_of(own["dim"])
    leaves.choices.extend((f"network.{k}", v, "asked for") for k, v in given.items())
    leaves.choices.extend(tokens.choices)
    return tokens.network | own
