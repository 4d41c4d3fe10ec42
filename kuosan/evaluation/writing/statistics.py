"""Statistics of a set of texts, beside the same statistic of as many real texts.

A statistic here is a number of a whole set: an entropy, a share of repeated words. Most of them move with the size of
the set (more texts, more chance of repetition), so `measure_texts` cuts samples and real texts to one n, and takes
the floor over several disjoint draws of real texts where there are enough.

The standard error is a jackknife that leaves out one of G groups of texts in turn (Efron & Stein 1981),

    var θ ≈ (G−1)/G Σ_g (θ_{−g} − mean θ_{−·})²,                                                           (1)

which is why a statistic prepares its texts once and is then asked for its value on some of them. A statistic that
counts rare events has √k/N of it, and 0 where k = 0 of N happened, which nobody should believe; one event more, 1/N, is
added in squares, so that the error is √(k+1)/N. Rare events come in clusters, and samples that happen to have none show
too small an error; so the error of the samples is at least that of real texts, on average over the draws.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from kuosan.evaluation.base import Better, Measurement, subsets

GROUPS = 20
FEWEST_TEXTS = 10  # below this, a statistic of a set says nothing even beside its floor

Mask = np.ndarray[Any, np.dtype[np.bool_]]
Value = Callable[[Mask], float]


@dataclass(frozen=True)
class Statistic:
    """A number of a set of texts.

    `prepare(texts)` returns a function of a mask: the statistic of the texts where it is true. It raises ValueError
    where the statistic is not defined (no character, no n-gram). `space` names the unit that is counted. `event` is
    how much one event moves a statistic of these texts that counts events.
    """

    name: str
    better: Better
    space: str
    note: str
    prepare: Callable[[Sequence[Any]], Value]
    event: Callable[[Sequence[Any]], float] = lambda texts: 0.0

    def __call__(self, texts: Sequence[Any]) -> float:
        return self.prepare(texts)(np.ones(len(texts), dtype=bool))


@dataclass(frozen=True)
class RatioStatistic:
    """A ratio of two sums over items: `ratio` gives what each adds to the one and to the other. Where it `counts` rare
    events, one of them more is in its error."""

    name: str
    better: Better
    space: str
    note: str
    ratio: Callable[[Any], tuple[Float[Tensor, " n"], Float[Tensor, " n"]]]
    counts: bool = False

    def of(self, items: Any) -> Statistic:
        """The statistic of items that are numbered: the sets to compare are places in ``items``."""
        above, below = self.ratio(items)

        def prepare(places: Sequence[int]) -> Value:
            at = torch.tensor(list(places), dtype=torch.int64)

            def value(mask: Mask) -> float:
                kept = at[torch.from_numpy(mask)]
                total = float(below[kept].sum())
                if not total > 0:
                    raise ValueError(f"{self.name}: there is nothing to measure")
                return float(above[kept].sum()) / total

            return value

        def event(places: Sequence[int]) -> float:
            total = float(below[torch.tensor(list(places), dtype=torch.int64)].sum())
            return 1 / total if self.counts and total > 0 else 0.0

        return Statistic(self.name, self.better, self.space, self.note, prepare, event)

    def __call__(self, items: Any) -> float:
        return self.of(items)(range(len(items)))


def jackknifed(value: Value, n: int, generator: torch.Generator) -> float | None:
    """Standard error of a statistic of n texts by eq. (1), in random groups; None where it is not defined."""
    if n < 2:
        return None
    group = np.empty(n, dtype=np.int64)
    group[torch.randperm(n, generator=generator).numpy()] = np.arange(n) % min(GROUPS, n)
    try:
        left = np.array([value(group != g) for g in range(min(GROUPS, n))])
    except ValueError:
        return None
    return math.sqrt((len(left) - 1) / len(left) * ((left - left.mean()) ** 2).sum())


def _estimate(
    statistic: Statistic, texts: Sequence[Any], generator: torch.Generator
) -> tuple[float, float | None]:
    value = statistic.prepare(texts)
    stderr = jackknifed(value, len(texts), generator)
    whole = value(np.ones(len(texts), dtype=bool))
    return whole, math.hypot(stderr, statistic.event(texts)) if stderr is not None else None


def measure_texts(
    statistic: Statistic,
    samples: Sequence[Any],
    real: Sequence[Any],
    *,
    generator: torch.Generator,
    note: str = "",
    repeats: int = 5,
    noun: str = "texts",
) -> Measurement:
    """The statistic of the samples beside its floor on real texts, both at n = min(len(samples), len(real)); of items
    of any kind that its `prepare` takes, called by their ``noun``.

    Raises ValueError where n is below `FEWEST_TEXTS` or the statistic is not defined.
    """
    n = min(len(samples), len(real))
    if n < FEWEST_TEXTS:
        raise ValueError(f"needs {FEWEST_TEXTS} samples and real {noun}, got {len(samples)} and {len(real)}")
    if n < len(samples):
        samples = [samples[i] for i in subsets(len(samples), n, generator, 1)[0].tolist()]
    value, stderr = _estimate(statistic, samples, generator)
    draws = [[real[i] for i in s.tolist()] for s in subsets(len(real), n, generator, repeats)]
    own = [_estimate(statistic, texts, generator) for texts in draws]
    values = np.array([v for v, _ in own])
    known = [e for _, e in own if e is not None]
    usual = sum(known) / len(known) if known else None
    if stderr is not None and usual is not None:
        stderr = max(stderr, usual)
    if len(draws) >= 4:
        spread = math.hypot(float(values.std(ddof=1)), statistic.event(draws[0]))
        floor_stderr: float | None = spread / math.sqrt(len(draws))
    else:
        floor_stderr = usual
    words = (statistic.note, note, f"floor: {len(draws)} × {n} real {noun}")
    return Measurement(
        name=statistic.name,
        value=value,
        stderr=stderr,
        n=n,
        space=statistic.space,
        floor=float(values.mean()),
        floor_stderr=floor_stderr,
        better=statistic.better,
        note="; ".join(w for w in words if w),
    )
