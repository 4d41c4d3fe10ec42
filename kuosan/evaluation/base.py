"""Measurements and metrics: one form for every number that a report shows.

A number about samples means little alone. A Fréchet distance of 3 at n = 200 may be perfect, and the same 3
at n = 50 000 poor, because most distances between finite sets are biased upwards by about c/n. So every
`Measurement` carries

    value    the metric between n samples and a reference of real items,
    stderr   its standard error over fresh samples and a fresh reference,
    floor    the same metric between n *real* items and the same reference: what a perfect model would get,

and a sample is good where value is close to floor, not where value is small. Samples and floor have equal
counts and share one reference, so their biases cancel in value − floor. As the luck of the reference is
also shared, while stderr counts it in full, `sigmas` errs to the safe side: it understates a difference.

A `Metric` is a pure function of two sets of rows: it holds no random state, and the order of the rows does
not matter. It declares what it needs beside the rows, and which faults of a generator it must notice; the
law tests read these declarations from every exported metric (`kuosan.evaluation.METRICS`).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

Better = Literal["lower", "higher"]


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One measured number with everything that is needed to read it.

    `n` counts the samples that the value rests on; `space` names the feature space; `floor` is the
    real-versus-real value at the same n (for an accuracy: its ceiling) and None where it was not measured.
    """

    name: str
    value: float
    stderr: float | None
    n: int
    space: str
    floor: float | None = None
    floor_stderr: float | None = None
    better: Better
    note: str = ""

    @property
    def sigmas(self) -> float | None:
        """How many combined standard errors the value is worse than the floor (negative: better)."""
        if self.floor is None or self.stderr is None:
            return None
        spread = math.hypot(self.stderr, self.floor_stderr or 0.0)
        worse = self.value - self.floor if self.better == "lower" else self.floor - self.value
        return worse / spread if spread > 0 else None

    def to_json(self) -> dict[str, Any]:
        """A plain dict; numbers that are not finite become null, as JSON has no word for them."""
        plain = asdict(self)
        return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in plain.items()}


@dataclass(frozen=True)
class Estimate:
    """What a metric's mathematics returns: a value, its standard error, a floor where theory gives one."""

    value: float
    stderr: float | None
    floor: float | None = None
    floor_stderr: float | None = None
    note: str = ""


class Metric(ABC):
    """A number from samples and a reference.

    Class attributes
        name      short, lower case
        better    "lower" or "higher"
        needs     what the call takes: "features" (the rows are features), "logits" (the rows are class
                  scores), "labels" (keywords `labels`, `reference_labels`: Int64[n], Int64[m]),
                  "distances" (the rows are distances to the nearest training item, (n, 1))
        notices   the faults that must make it worse: "dropped modes", "noise", "copies", "wrong class"
        least     the fewest rows on either side for which it is defined
    """

    name: ClassVar[str]
    better: ClassVar[Better]
    needs: ClassVar[tuple[str, ...]]
    notices: ClassVar[tuple[str, ...]]
    least: ClassVar[int] = 2

    @abstractmethod
    def value(self, samples: Float[Tensor, "n d"], reference: Float[Tensor, "m d"], **needs: Tensor) -> float:
        """The number alone (cheap: it is repeated for the floor)."""

    @abstractmethod
    def estimate(
        self, samples: Float[Tensor, "n d"], reference: Float[Tensor, "m d"], **needs: Tensor
    ) -> Estimate:
        """The number with its standard error."""

    def __call__(
        self,
        samples: Float[Tensor, "n d"],
        reference: Float[Tensor, "m d"],
        *,
        space: str = "features",
        **needs: Tensor,
    ) -> Measurement:
        """The measurement in the feature space called `space`. Raises ValueError on wrong or too few rows."""
        check_rows(self, samples, reference)
        found = self.estimate(samples, reference, **needs)
        return Measurement(
            name=self.name,
            value=found.value,
            stderr=found.stderr,
            n=len(samples),
            space=space,
            floor=found.floor,
            floor_stderr=found.floor_stderr,
            better=self.better,
            note=found.note,
        )


def check_rows(metric: Metric, samples: Tensor, reference: Tensor) -> None:
    """Raises ValueError, with the numbers, where a metric is not defined for these rows."""
    for what, rows in (("samples", samples), ("reference", reference)):
        if rows.ndim != 2:
            raise ValueError(f"{metric.name}: {what} must be rows (n, d), not {tuple(rows.shape)}")
        if len(rows) < metric.least:
            raise ValueError(f"{metric.name}: needs at least {metric.least} {what}, got {len(rows)}")
        if not torch.isfinite(rows).all():
            raise ValueError(f"{metric.name}: {what} hold numbers that are not finite")
    if samples.shape[1] != reference.shape[1]:
        widths = f"{samples.shape[1]} and {reference.shape[1]}"
        raise ValueError(f"{metric.name}: samples and reference differ in width, {widths}")


def subsets(total: int, n: int, generator: torch.Generator, most: int = 5) -> list[Int[Tensor, " n"]]:
    """Up to `most` disjoint (so independent) random index sets of size n out of `total`."""
    order = torch.randperm(total, generator=generator)
    return [order[i * n : (i + 1) * n] for i in range(min(most, total // n))]


def measure(
    metric: Metric,
    samples: Float[Tensor, "n d"],
    reference: Float[Tensor, "m d"],
    real: Float[Tensor, "r d"],
    *,
    generator: torch.Generator,
    space: str = "features",
    note: str = "",
    repeats: int = 5,
) -> Measurement:
    """The metric on samples beside its floor on real rows disjoint from the reference.

    Both sides take the same n = min(len(samples), len(real)), drawn by `generator`. From four disjoint sets
    of real rows on, the floor's standard error is their spread / √repeats (given the reference); with fewer
    it is the metric's own. Raises ValueError where n is too small for the metric.
    """
    n = min(len(samples), len(real))
    if n < metric.least:
        raise ValueError(f"{metric.name}: needs at least {metric.least} samples and real items, got {n}")
    if n < len(samples):
        samples = samples[subsets(len(samples), n, generator, 1)[0]]
    found = metric(samples, reference, space=space)
    draws = subsets(len(real), n, generator, repeats)
    if len(draws) >= 4:
        values = torch.tensor([metric.value(real[i], reference) for i in draws], dtype=torch.float64)
        floor = float(values.mean())
        floor_stderr: float | None = float(values.std() / math.sqrt(len(draws)))
    else:
        own = [metric.estimate(real[i], reference) for i in draws]
        floor = sum(e.value for e in own) / len(own)
        known = [e.stderr for e in own if e.stderr is not None]
        floor_stderr = sum(known) / len(known) if known else None
    words = [
        found.note,
        note,
        f"floor: {len(draws)} × {n} real items against the same {len(reference)} reference items",
    ]
    return replace(found, floor=floor, floor_stderr=floor_stderr, note="; ".join(w for w in words if w))
