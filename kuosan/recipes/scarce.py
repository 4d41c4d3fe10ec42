"""Little data: what keeps a model of pictures from learning a few of them by heart.

How much of that is to be feared is a matter of passes, how often training will see each item: beyond `MANY` pictures
are augmented, in ways that do not leak (`training.augment`), and weights decay faster; where pictures cannot be
augmented dropout is on. Held-out error of 64 flowers of 16×16 after 600 passes, against nothing of that (0.270, 0.271;
two seeds, after the stroke the second; benchmarks/results/little_data.md):

| all augmentations | with dropout 0.1 | with decay 0.1 | dropout 0.1 | decay 0.1 | half the width |
|-------------------|------------------|----------------|-------------|-----------|----------------|
| -3.9 % / -3.6 %   | -2.1 % / -3.0 %  | -4.3 %         | -0.6 / -1.1 | -0.4 %    | +32 %          |

Half the width is narrower than a patch's values there, so that says little; the size is left as the time allows.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from kuosan.errors import UserError
from kuosan.recipes.schema import Recipe, TrainingPart
from kuosan.training.augment import KINDS, WIDTH, Augmentation

Choice = tuple[str, Any, str]

MANY = 300  # passes from which little data is a worry
DROPOUT, DECAY, USUAL_DECAY = 0.1, 0.1, 0.01


def augmentation_of(training: TrainingPart) -> Augmentation | None:
    """What the leaves say: None for ``none``, and for what was saved before there was a choice.

    Raises:
        UserError: an unknown kind.
    """
    if training.augment in ("none", "auto"):
        return None
    kinds = tuple(training.augment.split("+"))
    for kind in kinds:
        if kind not in KINDS:
            near = difflib.get_close_matches(kind, KINDS, 1, 0.4)
            hint = f"did you mean {near[0]}?" if near else "choose auto, none"
            raise UserError(
                f"training.augment={training.augment} has an unknown kind {kind!r}: {hint} It can be "
                f"{', '.join(KINDS)}, or several of them joined by +"
            )
    return Augmentation(kinds, training.augment_p)


def choose_scarce(
    recipe: Recipe, network: Mapping[str, Any], items: int, passes: float | None, *, fixed: str = ""
) -> tuple[dict[str, Any], dict[str, Any], list[Choice]]:
    """The leaves ``augment`` and ``weight_decay`` of `TrainingPart`, what the network's specification has besides
    (dropout, and what tells of augmentations), and the reasons.

    Args:
        passes: over the data that training will make; None where nobody knows, which is taken for few.
        fixed: why items cannot be augmented; nothing where they can.

    Raises:
        UserError: pictures cannot be augmented as asked for.
    """
    training, chosen = recipe.training, []
    many = passes is not None and passes > MANY
    told = "an unknown number of passes" if passes is None else f"{passes:,.0f} passes"
    why = f"{told} over {items:,} items" + (": they would be learned by heart" if many else "")

    def decide(name: str, given: Any, found: Any) -> Any:
        asked = given not in ("auto", None)
        chosen.append((name, given if asked else found, "asked for" if asked else why))
        return given if asked else found

    able = network["kind"] in ("transformer", "unet", "residual-unet") and not fixed
    able &= not recipe.init or bool(network.get("augment"))
    augment = decide("training.augment", training.augment, "+".join(KINDS) if many and able else "none")
    told_of = {"augment": WIDTH} if augment != "none" else {}
    if told_of:
        _check(recipe, able, fixed)
        augmentation_of(training.model_copy(update={"augment": augment}))
    # Beside augmentation dropout hurts: see the table.
    usual = DROPOUT if many and not told_of else network.get("dropout", 0.0)
    dropout = decide("dropout", recipe.network.dropout, usual)
    decay = decide("training.weight_decay", training.weight_decay, DECAY if many else USUAL_DECAY)
    return {"weight_decay": decay, "augment": augment}, {"dropout": dropout, **told_of}, chosen


def of_tokens(training: TrainingPart, what: str, instead: str) -> dict[str, Any]:
    """Those leaves for ``what`` is made of tokens, which has ways of its own ``instead``.

    Raises:
        UserError: augmentations of pictures are asked for.
    """
    if training.augment not in ("auto", "none"):
        raise UserError(
            f"training.augment={training.augment} is for pictures: leave it away, or vary {what} with {instead}"
        )
    decay = USUAL_DECAY if training.weight_decay == "auto" else training.weight_decay
    return {"weight_decay": decay, "augment": "none"}


def _check(recipe: Recipe, able: bool, fixed: str) -> None:
    if not able:
        what = fixed or f"the network of {recipe.init} was never told of augmentations"
        raise UserError(
            f"training.augment={recipe.training.augment} is not possible here: {what}; leave it away"
        )
