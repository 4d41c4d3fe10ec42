"""The held-out loss, at fixed items, times and noise: the same question every time it is asked.

So two answers are compared item by item. With d_i the difference of item i's losses,

    d̄ ± s(d)/√n                                                                                   (1)

holds none of what tells items apart, nor of the noise that both answers saw, and is far narrower than either loss's
own standard error. A loss counts as worse where d̄ is more than `BEYOND` of its standard errors above 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kuosan.core.random import Seeds
from kuosan.core.shapes import as_time
from kuosan.denoisers.base import Denoiser
from kuosan.training.data import Items
from kuosan.training.objective import Objective

LEVELS = 8
MOST_ITEMS = 128
FEWEST_ITEMS = 16
BEYOND = 2.0


@dataclass(frozen=True)
class Validation:
    """Mean loss, its standard error over items, the number of items, and (place, loss) at each level of noise, places
    on the ``axis`` that the objective names; ``each`` item's loss, and the standard error at each level."""

    loss: float
    stderr: float
    n: int
    levels: tuple[tuple[float, float], ...]
    axis: str
    each: tuple[float, ...]
    level_stderrs: tuple[float, ...] = ()

    def worse_than(self, other: Sequence[float]) -> bool:
        """Whether the loss is higher, by more than chance, than it was with ``other`` for each item."""
        if not other:  # a checkpoint from before they were kept
            return False
        value, stderr = difference(self.each, other)
        return value > BEYOND * stderr


def difference(mine: Sequence[float], other: Sequence[float]) -> tuple[float, float]:
    """Eq. 1: the mean difference of losses of the same items, and its standard error."""
    d = torch.tensor(mine, dtype=torch.float64) - torch.tensor(other, dtype=torch.float64)
    return float(d.mean()), float(d.std() / len(d) ** 0.5) if len(d) > 1 else float("nan")


@torch.no_grad()
def validate(denoiser: Denoiser, objective: Objective, items: Items, device: torch.device) -> Validation:
    """The loss on the first `MOST_ITEMS` held-out items at the middle of `LEVELS` equal parts of the density
    of times, every item at every level. Of a density that learns it is the usual one: the question must not change."""
    objective = objective.judged()
    x, cond = items.batch(torch.arange(min(len(items), MOST_ITEMS)))
    count = min(len(x), max(FEWEST_ITEMS, objective.judges // x[0].numel()))
    x, cond = x[:count], {k: v[:count] for k, v in cond.items()}
    x, cond = x.to(device), {k: v.to(device) for k, v in cond.items()}
    rows: list[Tensor] = []
    places = []
    for j in range(LEVELS):
        u = (j + 0.5) / LEVELS
        seeds = Seeds.of(0, count).fold("validation", j)
        rows.append(objective.at_quantiles(denoiser, x, as_time(u, count), seeds, **cond).double().cpu())
        places.append(objective.place(denoiser, u))
    losses = torch.stack(rows, 1)
    each = losses.mean(1)
    stderr = float(each.std() / count**0.5) if count > 1 else float("nan")
    levels = tuple(zip(places, losses.mean(0).tolist(), strict=True))
    errors = tuple((losses.std(0) / count**0.5).tolist()) if count > 1 else ()
    return Validation(float(each.mean()), stderr, count, levels, objective.axis, tuple(each.tolist()), errors)
