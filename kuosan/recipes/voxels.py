"""The recipe for voxels: masked diffusion of the cells of a grid, by a transformer over patches of them; of distances
`dense`.

Of distances and channels of colour a network has to say numbers, whose mean between two colours is a third one; of
voxels it says how likely each value is, and any cells can be given.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from kuosan.errors import UserError
from kuosan.modalities import VoxelModality, load
from kuosan.networks.cells import CHANNELS
from kuosan.recipes import dense, shapes
from kuosan.recipes.masked import Tokens, check_masked, settle_masked
from kuosan.recipes.settled import Question, Settled

MOST_PLACES = 512
FORMS = {"shape": "distance", "voxels": "voxels", "points": "points"}  # of modalities


def settle(asked: Question) -> Settled:
    """Read the shapes and decide every leaf.

    Raises:
        UserError: unusable data, or leaves that do not fit them.
    """
    source, recipe, start = asked.source, asked.recipe, asked.start
    cells = shapes.of_tokens(recipe)
    form = "voxels" if cells else recipe.data.form
    if start and form not in ("auto", FORMS[start.modality.name]):
        raise UserError(
            f"data.form={form} is not that of {recipe.init}, whose weights it starts from: leave it away"
        )
    if not (start.modality.name == "voxels" if start else cells):
        return dense.settle(asked)
    check_masked(recipe, source, "voxels", "cells", ", or set data.form=distance")
    data = load(
        source,
        modality=recipe.data.modality,
        like=start.modality if start else None,
        columns=start.columns if start else None,
        options={"shape": shapes.options(recipe)},
    )
    if not len(data.train):
        raise UserError(f"{source} holds nothing to train on: give a folder with shapes")
    modality = data.modality
    assert isinstance(modality, VoxelModality)
    patch = patch_of(modality.form.sides)
    places = modality.length // patch**3
    network = {
        "kind": "cells", "size": modality.tokeniser.size, "sides": list(modality.form.sides), "patch": patch,
        "length": modality.length,
    }  # fmt: skip
    tokens = Tokens(
        "voxels", "a cell is empty or of one colour; any cells can be given, and the rest is drawn", network, places,
        4 * CHANNELS * patch**3, places, "data.mirror", modality.resolved(),
        [("patch", patch, f"cells a side: {places:,} positions for {modality.length:,} cells")],
    )  # fmt: skip
    return settle_masked(asked, data, tokens)


def patch_of(sides: Sequence[int]) -> int:
    """The smallest patch that leaves at most `MOST_PLACES`, of 2 and 4 cells a side, which divide all sides."""
    return 2 if math.prod(sides) // 8 <= MOST_PLACES else 4
