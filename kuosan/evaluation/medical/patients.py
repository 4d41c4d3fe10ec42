"""Are samples scans of a patient who was trained on?

As `copies` asks it, but by patients: neighbouring slices of one patient lie near each other, so how near an honest item
may come to a training patient is told by items of *other* patients: the held-out ones, or, where these are few, each
training item and the nearest item of another patient.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from kuosan.evaluation.copies import FEWEST, Honest, Nearest, honest_distances
from kuosan.evaluation.estimates import nearest
from kuosan.evaluation.found import Found, copied


def honest_of_patients(
    training: Float[Tensor, "t d"],
    heldout: Float[Tensor, "v d"],
    patients: Sequence[bytes],
    others: Sequence[bytes],
) -> Honest:
    """Distances to the nearest training patient, of items of no training patient; or of training items to other
    patients. `patients` are those of training, `others` of the held-out items."""
    apart = torch.tensor([who not in set(patients) for who in others], dtype=torch.bool)
    rows = heldout[apart] if len(apart) else heldout[:0]
    if len(rows) >= FEWEST:
        found = honest_distances(training, rows)
        if len(found.distances) >= FEWEST and "held-out" in found.source:
            return Honest(
                found.distances, f"{found.source} of {len(set(others) - set(patients))} other patients"
            )
    number = {who: i for i, who in enumerate(dict.fromkeys(patients))}
    whose = torch.tensor([number[who] for who in patients])
    out = []
    for start in range(0, len(training), 1024):
        here = torch.cdist(training[start : start + 1024], training).double()
        here[whose[start : start + 1024, None] == whose[None]] = torch.inf
        out.append(here.min(1).values)
    distances = torch.cat(out)
    distances = distances[torch.isfinite(distances) & (distances > 0)]
    return Honest(
        distances[:, None], f"{len(distances)} training items, each to the {len(number) - 1} other patients"
    )


def copied_patients(
    found: Found,
    samples: Float[Tensor, "n d"],
    training: Float[Tensor, "t d"],
    heldout: Float[Tensor, "v d"],
    patients: Sequence[bytes],
    others: Sequence[bytes],
    space: str,
) -> tuple[Nearest, ...]:
    """copies and nearest_distance by patients, and the table of samples that come nearest to one."""
    index, distance = nearest(samples, training)
    honest = honest_of_patients(training, heldout, patients, others)
    note = f"{len(training)} training items of {len(set(patients))} patients"
    return copied(found, space, index, distance, honest, note)
