"""Can two numbers be told apart? Differences with intervals, and how much more would have to be measured.

A method's value over k seeds is the mean of its runs, and its error the larger one of what the runs say of it and of
what each says of itself,

    se² = max( s²/k, mean_i se_i² / k ),     s² the variance between runs                          (1)

(three runs that agree by luck are not free of error). Two of them differ by d, with se_d² = se_a² + se_b² and, by
Welch (1947), ν = se_d⁴ / (se_a⁴/(k_a - 1) + se_b⁴/(k_b - 1)) degrees of freedom; of a single run the error is that of
the measurement alone. They are told apart where the interval of 95 % leaves 0 out,

    d ± t_{0.975, ν} se_d                                                                          (2)

The samples that it would take: where se_d² = a/n + b, a due to n samples and b to the real items that all are measured
against, a difference as large as d is seen in `POWER` of all cases where

    (z_{0.975} + z_{POWER})² (a/n + b) ≤ d²    ⇒    n ≥ a / ( d²/(z_{0.975} + z_{POWER})² - b )       (3)

and no n suffices where the bracket is not positive.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from scipy import stats

LEVEL, POWER = 0.95, 0.8


@dataclass(frozen=True)
class Estimated:
    """A value, its standard error, and the runs that it is the mean of."""

    value: float
    stderr: float
    runs: int

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def over_runs(values: Sequence[float], stderrs: Sequence[float | None]) -> Estimated:
    """Eq. 1; of one run its own error."""
    k = len(values)
    mean = sum(values) / k
    own = [e for e in stderrs if e is not None and math.isfinite(e)]
    measured = sum(e * e for e in own) / len(own) / k if own else 0.0
    spread = sum((v - mean) ** 2 for v in values) / (k - 1) / k if k > 1 else 0.0
    return Estimated(mean, math.sqrt(max(measured, spread)), k)


@dataclass(frozen=True)
class Difference:
    """a - b, its standard error and interval (eq. 2); ``needed`` samples of each would tell it apart (eq. 3), None
    where no number does or nothing is known of it; ``n`` is of those that it rests on."""

    value: float
    stderr: float
    low: float
    high: float
    needed: int | None = None
    n: int | None = None

    @property
    def told(self) -> bool:
        """Whether the interval leaves 0 out."""
        return self.low > 0 or self.high < 0

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "told_apart": self.told}


def between(a: Estimated, b: Estimated) -> Difference:
    """Eq. 2, of independent runs."""
    variance = a.stderr**2 + b.stderr**2
    free = sum(e.stderr**4 / (e.runs - 1) for e in (a, b) if e.runs > 1)
    width = stats.t.ppf(0.5 + LEVEL / 2, variance**2 / free) if free > 0 else stats.norm.ppf(0.5 + LEVEL / 2)
    return interval(a.value - b.value, math.sqrt(variance), float(width))


def interval(
    value: float, stderr: float, width: float | None = None, needed: int | None = None, n: int | None = None
) -> Difference:
    """A difference whose error is known; normal unless ``width`` says how many errors an interval spans."""
    reach = stderr * (float(stats.norm.ppf(0.5 + LEVEL / 2)) if width is None else width)
    return Difference(value, stderr, value - reach, value + reach, needed, n)


def samples_needed(difference: float, by_samples: float, by_reference: float, n: int) -> int | None:
    """Eq. 3: the variances that n samples and the reference give the difference → how many samples would do."""
    z = float(stats.norm.ppf(0.5 + LEVEL / 2) + stats.norm.ppf(POWER))
    room = (difference / z) ** 2 - by_reference
    return max(2, math.ceil(by_samples * n / room)) if room > 0 else None
