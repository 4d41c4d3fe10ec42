"""Faults of voice leading, as any book on counterpoint lists them, counted window by window.

    parallel fifths      two voices move at once, in one direction, from a fifth (7 semitones, and octaves more) to a
                         fifth: p_i(s) ≠ p_i(s-1), p_j(s) ≠ p_j(s-1), both differences of one sign,
                         p_i - p_j ≡ 7 (mod 12) at s-1 and at s                                             (1)
    parallel octaves     the same with p_i - p_j ≡ 0 (mod 12)
    crossings            a note begins, and the upper of two voices is then below the lower one
    out of range         a note that no training piece has in its voice

Of real music these are not zero, and not the same for all: a corpus is judged by its own held-out pieces. Voices of one
part (the notes of a chord) are not compared with each other, unless there is only one part.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from kuosan.evaluation.music.bars import Bars

FAULTS = ("parallel_fifths", "parallel_octaves", "crossings", "out_of_range")


def faults(bars: Bars) -> dict[str, Float[Tensor, " n"]]:
    """How many there are of each in every window."""
    pitch, n = bars.pitch, len(bars)
    found = {name: torch.zeros(n, dtype=torch.float64) for name in FAULTS}
    before, after = pitch[:, :-1], pitch[:, 1:]
    sound = (before >= 0) & (after >= 0)
    move = torch.where(sound, after - before, 0).sign()
    for i, j in bars.pairs():
        together = (move[..., i] != 0) & (move[..., i] == move[..., j])
        first, then = before[..., i] - before[..., j], after[..., i] - after[..., j]
        for name, interval in (("parallel_fifths", 7), ("parallel_octaves", 0)):
            same = (first.remainder(12) == interval) & (then.remainder(12) == interval)
            found[name] += (together & same).sum(1)
        both = (pitch[..., i] >= 0) & (pitch[..., j] >= 0)
        begins = bars.onset[..., i] | bars.onset[..., j]
        found["crossings"] += (both & begins & (pitch[..., i] < pitch[..., j])).sum(1)
    for k, (low, high) in enumerate(bars.ranges):
        outside = (pitch[..., k] < low) | (pitch[..., k] > high)
        found["out_of_range"] += (outside & bars.onset[..., k]).sum(1)
    return found
