"""What else of an estimate's errors counts, beside those of the numbers of a state: those of what is watched."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kuosan.errors import UserError
from kuosan.modalities.base import Modality
from kuosan.recipes.settled import Choice


def choose_watched(
    tree: Mapping[str, Any], modality: Modality[Any], usual: Mapping[str, tuple[Any, str]]
) -> tuple[dict[str, float], list[Choice]]:
    """The weights ``velocity`` and ``feet`` of the objective, where they were asked for or are usual, and the reasons.

    Raises:
        UserError: one was asked for of states that have no such thing.
    """
    latents = tree["codec"]["kind"] != "none"
    bound = tree["objective"]["kind"] == "elbo"
    found, choices = {}, []
    for leaf, what, there, none in (
        ("velocity", "differences between neighbouring frames", "time" in modality.axes, "these states have no time"),
        ("feet", "velocities of feet", modality.feet is not None, "these states have no feet"),
    ):  # fmt: skip
        fits, asked = there and not latents and not bound, tree["objective"][leaf]
        value, why = usual.get(f"objective.{leaf}", (0.0, "")) if asked == "auto" else (asked, "asked for")
        if asked not in ("auto", 0) and not fits:
            none = "objective=elbo is a bound, of states alone" if bound and there and not latents else none
            raise UserError(f"objective.{leaf} weighs {what}, and {none}: leave it away")
        found[leaf] = float(value) if fits else 0.0
        if fits and (value or asked != "auto"):
            choices.append((f"objective.{leaf}", found[leaf], why))
    return found, choices
