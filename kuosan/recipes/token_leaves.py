"""Leaves that all models of tokens share, and how a recipe decides: what was asked for stands, the rest is chosen."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kuosan.errors import UserError
from kuosan.recipes.scarce import of_tokens
from kuosan.recipes.schema import NetworkPart, Recipe, TrainingPart
from kuosan.recipes.settled import Choice
from kuosan.recipes.views import without_views

TOKENS_PER_STEP = 4096
SPACED = ("spaced", "tokens of a step are drawn independently, and depend least on one another far apart")


@dataclass(frozen=True)
class Leaves:
    """The leaves of a recipe as they are decided, and the reasons."""

    tree: dict[str, Any]
    choices: list[Choice] = field(default_factory=list)

    @classmethod
    def of(cls, recipe: Recipe) -> Leaves:
        return cls(recipe.model_dump())

    def decide(self, part: str, leaf: str, value: Any, why: str) -> Any:
        """What a leaf is: as asked for, or else ``value``."""
        if self.tree[part][leaf] in ("auto", None):
            self.tree[part][leaf] = value
        else:
            value, why = self.tree[part][leaf], "asked for"
        self.choices.append((f"{part}.{leaf}", value, why))
        return value


def check_tokens(recipe: Recipe, source: Path, what: str) -> None:
    """Raises `UserError` where leaves of a recipe are for states of numbers, and ``source`` holds ``what``: texts."""
    if recipe.codec.kind not in ("auto", "none"):
        raise UserError(
            f"codec={recipe.codec.kind} is for pictures, and {source} holds {what}: leave it away"
        )
    if recipe.objective.weight not in ("auto", "bound", "even"):
        raise UserError(
            f"objective.weight={recipe.objective.weight} is for states of numbers: {what} have bound and even"
        )
    if recipe.objective.timing not in ("auto", "uniform"):
        raise UserError(f"objective.timing={recipe.objective.timing} is for states of numbers: leave it away")


def token_length(recipe: Recipe) -> int | str:
    """How long windows are to be, in tokens or steps.

    Raises:
        UserError: a time.
    """
    length = recipe.data.length
    if isinstance(length, str) and length != "auto":
        raise UserError(f"data.length={length} is no number of tokens: give a whole number, or leave it away")
    return length


def own_leaves(recipe: Recipe, what: str) -> dict[str, Any]:
    """What a person set of a network of tokens.

    Raises:
        UserError: a leaf that only networks for pictures have.
    """
    given = recipe.network.model_dump(exclude={"kind"}, exclude_none=True)
    if odd := set(given) - {"dim", "depth", "heads", "dropout"}:
        raise UserError(
            f"network.{min(odd)} is of networks for pictures; those of {what} have dim, depth, heads and dropout"
        )
    return given


def usual_batch(length: int, items: int) -> int:
    """Windows of so many tokens in a step of training on so many items."""
    batch = max(8, min(128, 2 ** (TOKENS_PER_STEP // length).bit_length() // 2))
    return max(1, min(batch, 2 ** (items // 2).bit_length()))


def token_leaves(
    leaves: Leaves,
    network: dict[str, Any],
    *,
    length: int,
    items: int,
    started: bool,
    most_steps: int,
    what: str,
    varied_by: str,
    solver: tuple[str, str] = SPACED,
) -> None:
    """Decide objective, optimiser, batch, rate and sampler of a model whose process and network are settled.

    Args:
        length: tokens of a state. items: to train on. started: from trained weights. most_steps: of a sample, unless
            asked for. what: the data are, and by which leaves they can be varied_by. solver: of samples, and why.

    Raises:
        UserError: leaves that are for pictures.
    """
    tree, decide = leaves.tree, leaves.decide
    training = TrainingPart(**tree["training"])
    tree["training"] |= of_tokens(training, what, varied_by) | without_views(training, what)
    stock = network["kind"] == "stock-lm"
    tree["network"] = NetworkPart(kind=network["kind"]).model_dump()
    tree["codec"]["kind"] = "none"
    tree["noise"]["kind"], tree["schedule"]["kind"], tree["schedule"]["shift"] = "gaussian", "cosine", 1.0
    tree["objective"]["output"] = "x"
    decide("objective", "weight", "even", "less noise than the bound's own weight, and the same minimum")
    why = "what the model was trained with" if stock else "learns faster than AdamW from as many items"
    decide("training", "optimizer", "adamw" if stock else "muon", why)
    decide("objective", "timing", "uniform", "stratified")
    decide("training", "batch", usual_batch(length, items), f"about {TOKENS_PER_STEP:,} tokens per step")
    rate = 1e-4 if stock else 5e-4 if started else float(f"{3e-3 * (128 / network['dim']) ** 0.5:.2g}")
    why = "a start from trained weights" if started else "falls with the network's width"
    decide("training", "lr", rate, why)
    kind = tree["process"]["kind"]
    decide("sampling", "solver", *(("ancestral", "redraws") if kind == "uniform" else solver))
    decide("sampling", "grid", "auto", "the unmasking schedule that is fitted when training ends")
    if tree["sampling"]["steps"] == Recipe().sampling.steps:
        tree["sampling"]["steps"] = length if kind == "autoregressive" else min(most_steps, length)
        leaves.choices.append(
            ("sampling.steps", tree["sampling"]["steps"], "tokens of a step are drawn independently")
        )
