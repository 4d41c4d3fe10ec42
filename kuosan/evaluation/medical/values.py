"""Are values in their units where they belong?

    value_distance    ∫ |F(v) − G(v)| dv of the laws F and G of all values, in their unit                   (1)
    implausible       the share of items of which one of `LEVELS` lies outside of what real items have     (2)

(1) is the first Wasserstein distance (Vallender 1974), over `BINS` bins of the range. (2) is what MAISI's quality check
asks of organs (Guo et al. 2025), of whole items: a CT without air, an X-ray that is too bright throughout.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from kuosan.evaluation.base import Better, Estimate, Metric
from kuosan.evaluation.estimates import jackknife, share_stderr
from kuosan.modalities import Scan

BINS, GROUPS = 256, 6
LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)


def histogram(scans: Sequence[Scan], low: float, high: float) -> Float[Tensor, "n bins"]:
    """Of each item the share of its values that each bin of low … high holds, times the width of a bin, so
    that (1) is in units whatever the bins."""
    rows = [torch.histc(torch.from_numpy(s.values).double(), BINS, low, high) / s.values.size for s in scans]
    width = (high - low) / BINS
    return (torch.stack(rows) if rows else torch.zeros(0, BINS, dtype=torch.float64)) * width


def levels(scans: Sequence[Scan]) -> Float[Tensor, "n levels"]:
    """Quantiles `LEVELS` of the values of each item."""
    at = torch.tensor(LEVELS, dtype=torch.float64)
    rows = [torch.quantile(torch.from_numpy(s.values).double().flatten(), at) for s in scans]
    return torch.stack(rows) if rows else torch.zeros(0, len(LEVELS), dtype=torch.float64)


class ValueDistance(Metric):
    """Equation (1) of rows by `histogram`."""

    name: ClassVar[str] = "value_distance"
    better: ClassVar[Better] = "lower"
    needs: ClassVar[tuple[str, ...]] = ("features",)
    notices: ClassVar[tuple[str, ...]] = ("noise",)

    def value(self, samples: Float[Tensor, "n d"], reference: Float[Tensor, "m d"], **needs: Tensor) -> float:
        return float((samples.mean(0) - reference.mean(0)).cumsum(0).abs().sum())

    def estimate(
        self, samples: Float[Tensor, "n d"], reference: Float[Tensor, "m d"], **needs: Tensor
    ) -> Estimate:
        stderr = jackknife(lambda a, b: self.value(samples[a], reference[b]), samples, reference, GROUPS)
        return Estimate(self.value(samples, reference), stderr)


class Implausible(Metric):
    """Equation (2) of rows by `levels`."""

    name: ClassVar[str] = "implausible"
    better: ClassVar[Better] = "lower"
    needs: ClassVar[tuple[str, ...]] = ("features",)
    notices: ClassVar[tuple[str, ...]] = ("noise",)

    def value(self, samples: Float[Tensor, "n d"], reference: Float[Tensor, "m d"], **needs: Tensor) -> float:
        low, high = reference.min(0).values, reference.max(0).values
        return float(((samples < low) | (samples > high)).any(1).double().mean())

    def estimate(
        self, samples: Float[Tensor, "n d"], reference: Float[Tensor, "m d"], **needs: Tensor
    ) -> Estimate:
        value = self.value(samples, reference)
        return Estimate(value, share_stderr(value, len(samples)))
