"""Who plays which part in an evaluation: reference, floor, and the items that teach the encoder.

A fair floor needs real items that the feature space has never seen, for an encoder sets its own training
items apart better than new ones. So of T training items

    spare      up to T/3 are kept from the encoder: the floor of trained feature spaces draws on them;
    taught     the rest trains the encoder;
    reference  is the held-out set, and where this is smaller than `FEWEST_REFERENCE`, the held-out set plus
               half of the spare items (said in `note`); the floor then draws on the other half.

A space that is not trained (pixels, inception) takes its floor from any training items that are not in the
reference, as many as the floor can use.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

FEWEST_REFERENCE = 200
FLOOR_REPEATS = 5


@dataclass(frozen=True)
class Roles:
    """Indices into the training set; `note` says how the reference was made.

    `taught` trains the encoder; `unseen` is the floor's pool in trained spaces, `pool` in the others;
    `borrowed` joins the held-out items in the reference.
    """

    taught: Int[Tensor, " a"]
    unseen: Int[Tensor, " b"]
    pool: Int[Tensor, " c"]
    borrowed: Int[Tensor, " d"]
    note: str


def roles(train: int, heldout: int, samples: int, generator: torch.Generator) -> Roles:
    """Random disjoint parts for `train` training, `heldout` held-out items and `samples` samples."""
    order = torch.randperm(train, generator=generator)
    small = heldout < FEWEST_REFERENCE
    spare = order[: min(train // 3, (FLOOR_REPEATS + small) * max(samples, FEWEST_REFERENCE))]
    half = min(len(spare) // 2, FEWEST_REFERENCE * 5) if small else 0
    borrowed, unseen = spare[:half], spare[half:]
    note = f"reference: {heldout} held-out items"
    if half:
        note += f" and, as these are few, {half} training items"
    most = FLOOR_REPEATS * max(samples, FEWEST_REFERENCE)
    return Roles(order[len(spare) :], unseen, order[half : half + most], borrowed, note)
