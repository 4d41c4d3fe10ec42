"""What `kuosan sample` can be asked of shapes: that they are symmetric, and that they stand."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

from kuosan.errors import UserError

if TYPE_CHECKING:
    from kuosan.recipes.run import Run


def constrained(run: Run, symmetric: str | None, flat_base: bool) -> Run:
    """The run whose decoded shapes are as asked for; itself where nothing is.

    Raises:
        UserError: a run that is not of shapes, or an unknown axis.
    """
    if symmetric is None and not flat_base:
        return run
    from kuosan.modalities import ShapeModality

    modality = run.modality
    if not isinstance(modality, ShapeModality):
        flag = "--flat-base" if flat_base else "--symmetric"
        raise UserError(f"{flag} is for shapes, and {run.path} is no model of shapes: leave it away")
    if symmetric not in (None, "x", "y", "xy"):
        raise UserError(
            f"--symmetric {symmetric} is no axis that shapes can be mirrored along: give x, y or xy"
        )
    found = copy.copy(run)
    found.modality = ShapeModality(modality.form, symmetric or "", flat_base)
    return found
