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

from collections.abc import Iterator

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from kuosan.evaluation.music.bars import Bars

FAULTS = ("parallel_fifths", "parallel_octaves", "crossings", "out_of_range")


def faults(bars: Bars) -> dict[str, Float[Tensor, " n"]]:
    """How many there are of each in every window."""
    found = {name: torch.zeros(len(bars), dtype=torch.float64) for name in FAULTS}
    for name, where, _, _ in _found(bars):
        found[name] += where.sum(1)
    return found


def fault_places(bars: Bars) -> Bool[Tensor, "n t v"]:
    """Where they are: the steps and voices whose notes make one."""
    found = torch.zeros(bars.pitch.shape, dtype=torch.bool)
    for _, where, voices, back in _found(bars):
        for voice in voices:
            found[..., voice] |= where
            found[:, : where.shape[1] - back, voice] |= where[:, back:]
    return found


def _found(bars: Bars) -> Iterator[tuple[str, Bool[Tensor, "n t"], tuple[int, ...], int]]:
    """The name of a fault, the steps at which it is made, by which voices, and since how many steps before."""
    pitch = bars.pitch
    before, after = pitch[:, :-1], pitch[:, 1:]
    sound = (before >= 0) & (after >= 0)
    move = torch.where(sound, after - before, 0).sign()
    start = torch.zeros(len(bars), 1, dtype=torch.bool)
    for i, j in bars.pairs():
        together = (move[..., i] != 0) & (move[..., i] == move[..., j])
        first, then = before[..., i] - before[..., j], after[..., i] - after[..., j]
        for name, interval in (("parallel_fifths", 7), ("parallel_octaves", 0)):
            same = (first.remainder(12) == interval) & (then.remainder(12) == interval)
            yield name, torch.cat([start, together & same], 1), (i, j), 1
        both = (pitch[..., i] >= 0) & (pitch[..., j] >= 0)
        begins = bars.onset[..., i] | bars.onset[..., j]
        yield "crossings", both & begins & (pitch[..., i] < pitch[..., j]), (i, j), 0
    for k, (low, high) in enumerate(bars.ranges):
        outside = (pitch[..., k] < low) | (pitch[..., k] > high)
        yield "out_of_range", outside & bars.onset[..., k], (k,), 0
