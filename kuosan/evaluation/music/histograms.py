"""Histograms of music, and how far two of them overlap.

A window is a row of counts; the histogram of a set is the sum of its rows over its total, and two sets overlap by

    o(p, q) = Σ_k min(p_k, q_k) = 1 - ½ Σ_k |p_k - q_k|                                             (1)

which is 1 where they are the same and 0 where they share nothing (the overlapping area of Yang & Lerch 2020, of the
histograms themselves). Small sets overlap less, real ones too: read it beside its floor.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from kuosan.evaluation.base import Better, Estimate, Metric
from kuosan.evaluation.music.bars import Bars

WIDEST = 12  # semitones: larger leaps are counted with the octave
GROUPS = 20
CLASSES = 12


def pitch_classes(bars: Bars) -> Float[Tensor, "n 12"]:
    """Steps that each of the twelve pitch classes sounds."""
    hot = torch.zeros(len(bars), CLASSES, dtype=torch.float64)
    which = bars.pitch.remainder(CLASSES).flatten(1)
    return hot.scatter_add_(1, which, (bars.pitch >= 0).double().flatten(1))


def intervals(bars: Bars) -> Float[Tensor, "n 25"]:
    """Melodic intervals from each note of a voice to its next, in semitones, an octave at most."""
    size = 2 * WIDEST + 1
    found = torch.zeros(len(bars), size, dtype=torch.float64)
    for row, (pitch, onset) in enumerate(zip(bars.pitch, bars.onset, strict=True)):
        for k in range(pitch.shape[1]):
            notes = pitch[onset[:, k], k]
            steps = notes.diff().clamp(-WIDEST, WIDEST) + WIDEST
            found[row] += torch.bincount(steps, minlength=size)
    return found


def durations(bars: Bars) -> Float[Tensor, "n t"]:
    """How many steps notes last, those that the window cuts included."""
    t = bars.pitch.shape[1]
    found = torch.zeros(len(bars), t + 1, dtype=torch.float64)
    end = torch.full_like(bars.pitch[:, 0], t)
    for s in range(t - 1, -1, -1):
        begins = bars.onset[:, s]
        found.scatter_add_(1, torch.where(begins, end - s, 0), begins.double())
        end = torch.where(begins | (bars.pitch[:, s] < 0), s, end)
    return found[:, 1:]


def positions(bars: Bars) -> Float[Tensor, "n t"]:
    """Where in the bar notes begin."""
    n, t = bars.pitch.shape[:2]
    place = torch.arange(t)[None] % bars.bar[:, None]
    return torch.zeros(n, t, dtype=torch.float64).scatter_add_(1, place, bars.onset.sum(2).double())


HISTOGRAMS: dict[str, Callable[[Bars], Tensor]] = {
    "pitch_class_overlap": pitch_classes,
    "interval_overlap": intervals,
    "duration_overlap": durations,
    "onset_overlap": positions,
}


class Overlap(Metric):
    """Eq. 1 of the histograms of two sets of rows of counts."""

    name: ClassVar[str] = "overlap"
    better: ClassVar[Better] = "higher"
    needs: ClassVar[tuple[str, ...]] = ("features",)
    notices: ClassVar[tuple[str, ...]] = ("dropped modes",)

    def value(self, samples: Float[Tensor, "n d"], reference: Float[Tensor, "m d"], **needs: Tensor) -> float:
        p, q = (_shares(rows.double().sum(0)) for rows in (samples, reference))
        return float(torch.minimum(p, q).sum())

    def estimate(
        self, samples: Float[Tensor, "n d"], reference: Float[Tensor, "m d"], **needs: Tensor
    ) -> Estimate:
        """With a jackknife over groups of rows, of both sides (Efron & Stein 1981)."""
        value = self.value(samples, reference)
        variance = 0.0
        for mine, k in ((samples, 0), (reference, 1)):
            groups = min(GROUPS, len(mine))
            group = torch.arange(len(mine)) % groups
            left = torch.tensor(
                [
                    self.value(*((mine[group != g], reference) if k == 0 else (samples, mine[group != g])))
                    for g in range(groups)
                ],
                dtype=torch.float64,
            )
            variance += float((groups - 1) / groups * (left - left.mean()).square().sum())
        return Estimate(value, math.sqrt(variance))


def _shares(counts: Tensor) -> Tensor:
    total = counts.sum()
    if not float(total) > 0:
        raise ValueError("overlap: there is nothing to count")
    return counts / total
