"""The order of the data: a pure function of the seed and the step, so a resume has nothing to restore."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Protocol

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from kuosan.core.random import Seeds
from kuosan.core.shapes import State


class Items(Protocol):
    """A data set: how many items, and a batch of them as clean states with their conditions."""

    def __len__(self) -> int: ...

    def batch(self, index: Int64[Tensor, " b"]) -> tuple[Any, dict[str, Tensor]]: ...


class TrainingItems(Items, Protocol):
    """Items to train on: what is augmented is drawn from ``seeds``, one per item of the batch."""

    def batch(
        self, index: Int64[Tensor, " b"], seeds: Seeds | None = None
    ) -> tuple[State, dict[str, Tensor]]: ...


@lru_cache(maxsize=4)
def _permutation(seed: int, epoch: int, count: int) -> np.ndarray:
    # NumPy reads a plain list as floats, in which all negative seeds meet.
    key = np.array([epoch, seed & (1 << 64) - 1], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key)).permutation(count)


def batch_index(seed: int, step: int, batch: int, count: int) -> Int64[Tensor, " b"]:
    """The items of a step: the data is walked through in a new order every epoch, no item twice in one."""
    places = np.arange(step * batch, (step + 1) * batch)
    rows = [
        _permutation(seed, int(epoch), count)[place]
        for epoch, place in zip(places // count, places % count, strict=True)
    ]
    return torch.from_numpy(np.array(rows, dtype=np.int64))


def drop_conditions(
    cond: dict[str, Tensor], null: dict[str, int], share: float, seeds: Seeds
) -> dict[str, Tensor]:
    """Conditions with some hidden (set to their null index), all of an example's together."""
    if not cond or share <= 0:
        return cond
    hidden = seeds.fold("drop").uniforms() < share
    return {
        name: torch.where(hidden.to(value.device), null[name], value) if name in null else value
        for name, value in cond.items()
    }
