"""The difference of two sets of samples, both held against the same real items.

Two runs that were asked for the same samples share their noise, their conditions and the reference, so that their
difference is surer than either of the two values. Groups g = 1 … G of samples (of the same numbers in both sets), and
then of reference items, are left out,

    d = m(A, R) - m(B, R),    var d ≈ Σ_sets (G-1)/G Σ_g (d_{-g} - mean d_{-·})²                     (1)

with what is due to the samples and what to the reference apart, as more samples mend only the former
(`versus.samples_needed`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from kuosan.evaluation.base import Metric
from kuosan.evaluation.versus import Difference, interval, samples_needed

GROUPS = 8


def left_out(n: int) -> Iterator[Tensor]:
    """What stays when each group is left out."""
    number = torch.arange(n)
    for g in range(GROUPS):
        yield number[number % GROUPS != g]


def paired_difference(
    metric: Metric, a: Float[Tensor, "n d"], b: Float[Tensor, "n d"], reference: Float[Tensor, "m d"]
) -> Difference:
    """Eq. 1, with its interval and the samples that it would take to tell it apart."""
    if len(a) != len(b):
        raise ValueError(f"{metric.name}: {len(a)} and {len(b)} samples cannot be paired")

    def d(mine: Tensor, theirs: Tensor) -> float:
        return metric.value(a[mine], reference[theirs]) - metric.value(b[mine], reference[theirs])

    everyone, everything = torch.arange(len(a)), torch.arange(len(reference))
    by_samples = _spread(lambda keep: d(keep, everything), len(a))
    by_reference = _spread(lambda keep: d(everyone, keep), len(reference))
    value = d(everyone, everything)
    needed = samples_needed(value, by_samples, by_reference, len(a))
    return interval(value, math.sqrt(by_samples + by_reference), needed=needed, n=len(a))


def _spread(statistic: Callable[[Tensor], float], n: int) -> float:
    values = torch.tensor([statistic(keep) for keep in left_out(n)], dtype=torch.float64)
    return (GROUPS - 1) / GROUPS * float((values - values.mean()).square().sum())
