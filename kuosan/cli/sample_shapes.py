"""What `kuosan sample` can be asked of shapes: that they are symmetric, stand, hang together, and that cells stay."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from kuosan.errors import UserError

if TYPE_CHECKING:
    from kuosan.recipes.run import Run
    from kuosan.recipes.samples import Samples
    from kuosan.recipes.tokens import Rules

NAMED = 8  # samples that a sentence names


def constrained(run: Run, symmetric: str | None, flat_base: bool, one_piece: bool) -> Run:
    """The run whose decoded shapes are as asked for; itself where nothing is.

    Raises:
        UserError: a run that is not of shapes, an unknown axis, or what points cannot be.
    """
    asked = {"--symmetric": symmetric is not None, "--flat-base": flat_base, "--one-piece": one_piece}
    flag = next((name for name, is_asked in asked.items() if is_asked), None)
    if flag is None:
        return run
    from kuosan.modalities import ShapesModality, ShapeWishes

    modality = run.modality
    if not isinstance(modality, ShapesModality):
        raise UserError(f"{flag} is for shapes, and {run.path} is no model of shapes: leave it away")
    if symmetric not in (None, "x", "y", "xy"):
        raise UserError(
            f"--symmetric {symmetric} is no axis that shapes can be mirrored along: give x, y or xy"
        )
    found = copy.copy(run)
    found.modality = modality.wishing(ShapeWishes(symmetric or "", flat_base, one_piece))
    return found


def about_empty(samples: Samples) -> tuple[str, dict[str, Any]]:
    """Which shapes have no surface, so that nothing is in their files."""
    from kuosan.modalities import ShapesModality

    if not (isinstance(samples.modality, ShapesModality) and samples.modality.solid):
        return "", {}
    raws = enumerate(samples.raws(), samples.first)
    empty = [number for number, shape in raws if not len(shape.solid().faces)]
    if not empty:
        return "", {"empty": empty}
    named = ", ".join(f"{number:05d}" for number in empty[:NAMED]) + (" …" if len(empty) > NAMED else "")
    text = (
        f"\n{len(empty):,} of {len(samples):,} are empty, without any surface ({named}): draw others with another "
        "--seed, or train longer."
    )
    return text, {"empty": empty}


def voxel_rules(run: Run, parts: Mapping[str, Any], others: Mapping[str, Any]) -> Rules | None:
    """What cells must stay as they are; None where nothing is asked.

    Raises:
        UserError: wishes about texts or music, or what `recipes.voxels_wishes.rules_of_voxels` raises.
    """
    if asked := next((name for name, value in others.items() if value and name != "given"), None):
        raise UserError(
            f"--{asked.replace('_', '-')} is not for voxels, and {run.path} is a model of them: leave it away, or use "
            "--given with --keep"
        )
    from kuosan.recipes.voxels_wishes import rules_of_voxels

    return rules_of_voxels(run, others["given"], parts["keep"])
