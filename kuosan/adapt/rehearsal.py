"""Rehearsal: what a model could do before, shown to it again as it learns something new.

A share p of what training sees are samples of the model itself as it was, under the conditions that they were drawn
with, and their losses count λ times:

    L = E_new[(1 - p) ℓ(x)] + λ E_old[p ℓ(x)]                                                     (1)

(the prior preservation of DreamBooth, Ruiz et al. 2023, eq. 2, as one mixture). Nothing of the old data is needed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from kuosan.core.random import Seeds
from kuosan.core.shapes import State, Time, at
from kuosan.training.data import TrainingItems
from kuosan.training.objective import Found, Objective
from kuosan.training.timing import Timing


def rehearsed(seeds: Seeds, share: float) -> Bool[Tensor, " b"]:
    """Which examples of a step are samples of the old model."""
    return seeds.fold("items", "rehearsed").uniforms() < share


class Rehearsed:
    """Items of which a share are samples of the old model, from `fill` on.

    Args:
        items: the new ones.
        share: p of eq. 1.
    """

    def __init__(self, items: TrainingItems, share: float) -> None:
        self.items, self.share = items, share
        self._x: Tensor | None = None
        self._cond: Mapping[str, Tensor] = {}

    def __len__(self) -> int:
        return len(self.items)

    def fill(self, x: Tensor, cond: Mapping[str, Int64[Tensor, " n"]]) -> None:
        """With what the network works on, and its conditions."""
        self._x, self._cond = x, cond

    def batch(self, index: Int64[Tensor, " b"], seeds: Seeds | None = None) -> tuple[Any, dict[str, Tensor]]:
        """As they stand without seeds."""
        x, cond = self.items.batch(index, seeds)
        if seeds is None:
            return x, cond
        assert self._x is not None, "the old model comes first"
        old = seeds.fold("rehearsed").uniforms() < self.share
        row = (seeds.fold("row").uniforms() * len(self._x)).long()
        cond = {name: torch.where(at(old, c), self._cond[name][row], c) for name, c in cond.items()}
        return torch.where(at(old, x), self._x[row], x), cond


@dataclass(frozen=True)
class Weighed(Objective):
    """An objective in which samples of the old model count ``weight`` times, λ of eq. 1."""

    objective: Objective
    share: float
    weight: float

    @property
    def timing(self) -> Timing:  # type: ignore[override]
        return self.objective.timing

    def at_quantiles(
        self, denoiser: Any, x: State, u: Time, seeds: Seeds, **cond: Tensor
    ) -> Float[Tensor, " b"]:
        return self.objective.at_quantiles(denoiser, x, u, seeds, **cond)

    def draw(self, denoiser: Any, x: State, seeds: Seeds, u: Time | None = None, **cond: Tensor) -> Found:
        found = self.objective.draw(denoiser, x, seeds, u, **cond)
        weights = torch.where(rehearsed(seeds, self.share), self.weight, 1.0)
        return found._replace(losses=found.losses * weights.to(found.losses))

    def timed(self, timing: Timing) -> Weighed:
        return replace(self, objective=self.objective.timed(timing))

    def stage(self, progress: float) -> Weighed:
        return replace(self, objective=self.objective.stage(progress))

    def judged(self) -> Objective:
        return self.objective.judged()
