"""What a person asks of voxels: that cells of a shape of theirs stay as they are, and the rest is drawn."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from kuosan.errors import UserError
from kuosan.modalities.base import Unreadable
from kuosan.recipes.tokens import Rules
from kuosan.recipes.voxels_measure import voxels_of
from kuosan.recipes.wishes import kept

if TYPE_CHECKING:
    from kuosan.recipes.run import Run


def rules_of_voxels(run: Run, given: Path | None, keep: Sequence[str]) -> Rules | None:
    """The cells of the shape ``given`` that lie in one of the parts ``keep``, such as "height:0-50%", with what they
    hold, be it nothing; None where nothing is asked for.

    Raises:
        UserError: no such shape, or parts that are not there, nothing or everything.
    """
    if given is None:
        if keep:
            raise UserError("--keep says what stays of an item, and there is none: add --given FILE")
        return None
    modality = voxels_of(run)
    if not given.is_file():
        raise UserError(f"there is no file {given}: give --given one shape")
    try:
        x = modality.encode([modality.read(given)])[0]
    except Unreadable as error:
        raise UserError(f"{given} cannot be read: {error.reason}") from error
    stays = torch.zeros(modality.form.sides, dtype=torch.bool)
    for text in keep:
        stays |= kept(modality.distances, text, modality.grid(x[None]))[0, 0]
    if not bool(stays.any()) or bool(stays.all()):
        what = "nothing" if not bool(stays.any()) else "all"
        raise UserError(f"{what} of {given} stays: give --keep a part of it, such as height:0-50%")
    return Rules(given=torch.where(modality.ordered(stays), x, modality.tokeniser.size))
