"""Batches: a pure function of the seed and the step, so a resume has nothing to restore, and every process of several
makes its own share of the same one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from kuosan.core.random import Seeds
from kuosan.core.shapes import BESIDE, State, Time, at, moved
from kuosan.denoisers.base import Denoiser
from kuosan.training.objective import Found, Objective
from kuosan.training.parallel import World
from kuosan.training.timing import Timing


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


ROUND = 64  # steps of which every shelf has its share


def shelf_index(seed: int, step: int, batch: int, shelves: Sequence[Tensor]) -> Int64[Tensor, " b"]:
    """The items of a step where a batch has one shape: of one of the ``shelves``, each walked through as `batch_index`
    does, as often as its share of the items, so that each item is expected as often as any other.

    Of every `ROUND` steps a shelf with the share p has ⌊64 p⌋ or ⌈64 p⌉, by systematic sampling (Madow 1949), in random
    order; how many it had before is added up, so that a step is still a function of the seed and its number alone.
    """
    counts = [len(shelf) for shelf in shelves]
    number, place = divmod(step, ROUND)
    before, order = _visits(seed, number, tuple(counts))
    chosen = order[place]
    visit = before[chosen] + order[:place].count(chosen)
    own = Seeds.of(seed, 1).fold("shelf", chosen).number()
    return shelves[chosen][batch_index(own, visit, batch, counts[chosen])]


@lru_cache(maxsize=4)
def _visits(seed: int, number: int, counts: tuple[int, ...]) -> tuple[list[int], list[int]]:
    """How often each shelf was chosen before a round, and the shelf of each of its steps."""
    ends = np.cumsum(counts) / sum(counts)
    seeds = Seeds.of(seed, range(number + 1)).fold("round")
    starts = seeds.uniforms().numpy()
    places = (np.arange(ROUND) + starts[:, None]) / ROUND
    shelves = np.searchsorted(ends[:-1], places, side="right")
    before = np.bincount(shelves[:-1].ravel(), minlength=len(counts)).tolist()
    return before, shelves[-1][_permutation(seed, number, ROUND)].tolist()


def drop_conditions(
    cond: dict[str, Tensor], null: Mapping[str, int], share: float, seeds: Seeds
) -> dict[str, Tensor]:
    """Conditions with some hidden (at their null index, and what stands beside at 0), all of an example's together."""
    if not cond or share <= 0:
        return cond
    hidden = seeds.fold("drop").uniforms() < share
    null = {BESIDE: 0, **null}
    return {
        name: torch.where(at(hidden.to(value.device), value), null[name], value) if name in null else value
        for name, value in cond.items()
    }


@dataclass(frozen=True)
class Batch:
    """A share of a step's batch: clean states, conditions, and each example's seeds and time."""

    x: State
    cond: dict[str, Tensor]
    seeds: Seeds
    u: Time

    def __len__(self) -> int:
        return len(self.u)

    def draw(self, objective: Objective, denoiser: Denoiser, part: slice, device: torch.device) -> Found:
        """What an objective finds of some of them."""
        x, cond = moved(self.x[part], device), {k: moved(v[part], device) for k, v in self.cond.items()}
        return objective.draw(denoiser, x, self.seeds[part], self.u[part], **cond)


@dataclass(frozen=True)
class Batches:
    """All batches of a run, and of each what falls to this process.

    Args:
        items: to train on.
        size: examples of a batch, over all processes.
        drop: probability that conditions are hidden, by the indices of ``null``.
        shelves: the items of each shape, where a batch has one.
    """

    items: TrainingItems
    seed: int
    size: int
    drop: float
    null: Mapping[str, int]
    world: World
    shelves: Sequence[Tensor] = ()

    def of(self, timing: Timing, step: int, again: int) -> Batch:
        """The share of a step's batch, with other noise each time that a run came back ``again``."""
        share, seeds = self.world.share(self.size), Seeds.of(self.seed, self.size).fold("train", step, again)
        u, seeds = timing.draw(seeds)[share], seeds[share]  # times are spread over the whole batch
        if self.shelves:
            index = shelf_index(self.seed, step, self.size, self.shelves)
        else:
            index = batch_index(self.seed, step, self.size, len(self.items))
        x, cond = self.items.batch(index[share], seeds.fold("items"))
        return Batch(x, drop_conditions(cond, self.null, self.drop, seeds), seeds, u)
