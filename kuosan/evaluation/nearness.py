"""Are samples nearer to training items than other real items are? Cheap enough to be asked while training goes on.

The distance to the nearest training item alone misleads here: early samples are blurred, and what is blurred lies near
to everything. So an item's distance to its nearest training item is taken relative to the mean over its k nearest
(Carlini et al. 2023, section 4.2),

    ρ = d_1 / mean(d_1 … d_k),    k = 50                                                              (1)

close to 1 for what is equally far from all, blurred or not, and 0 for a copy. Held-out items tell what is usual; where
fewer than `FEWEST` are left, each training item beside the others. Samples are said to be nearer where their mean ρ
lies below that of real items by more than `BEYOND` standard errors of the difference: as a run asks some twenty times,
three of them keep false alarms to a few in a hundred runs.

Of texts the place of ρ is taken by the share of a text that lies outside the longest passage that it has in common
with training (`writing.spans`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from kuosan.evaluation.copies import FEWEST

NEIGHBOURS = 50
BEYOND = 3.0


_LOGGED = {
    "nearness": "value", "nearness_stderr": "stderr", "nearness_n": "n",
    "nearness_real": "real", "nearness_real_stderr": "real_stderr", "nearness_real_n": "real_n",
}  # fmt: skip


@dataclass(frozen=True)
class Nearness:
    """Mean ρ of samples and of real items, each with standard error and count."""

    value: float
    stderr: float
    n: int
    real: float
    real_stderr: float
    real_n: int

    @property
    def nearer(self) -> bool:
        """Whether samples are nearer to training than real items are, by more than chance."""
        return self.real - self.value > BEYOND * math.hypot(self.stderr, self.real_stderr)

    def to_json(self) -> dict[str, float]:
        """As a log has it."""
        return {name: getattr(self, field) for name, field in _LOGGED.items()}

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Nearness:
        """From a row of a log."""
        return cls(**{field: row.get(name) or 0 for name, field in _LOGGED.items()})


def compared(samples: Float[Tensor, " n"], real: Float[Tensor, " m"]) -> Nearness:
    """What ρ of samples and of real items comes to."""
    (a, da, n), (b, db, m) = (
        (float(x.mean()), float(x.std()) / len(x) ** 0.5, len(x)) for x in (samples, real)
    )
    return Nearness(a, da, n, b, db, m)


def crowding(
    rows: Float[Tensor, "n d"], training: Float[Tensor, "t d"], *, exclude_self: bool = False
) -> Float[Tensor, " n"]:
    """ρ of eq. 1 of every row; ``exclude_self`` is for rows that are the training rows."""
    apart = torch.cdist(rows, training).double()
    if exclude_self:
        apart.fill_diagonal_(math.inf)
    near = apart.topk(min(NEIGHBOURS, len(training) - exclude_self), largest=False).values
    return near[:, 0] / near.mean(1).clamp_min(1e-12)


def usual(training: Float[Tensor, "t d"], heldout: Float[Tensor, "h d"]) -> Float[Tensor, " m"]:
    """ρ of real items: held-out ones, or training items where there are too few."""
    if len(heldout) >= FEWEST:
        return crowding(heldout, training)
    return crowding(training, training, exclude_self=True)
