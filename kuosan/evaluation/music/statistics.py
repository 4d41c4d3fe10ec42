"""Numbers of a set of windows: groove, density, range, faults, each a mean over bars or windows.

    groove      1 - the mean share of places in a bar whose onset two neighbouring bars do not share                (1)

(Wu & Yang 2020, of neighbouring bars): 1 where every bar has the rhythm of the one before.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from kuosan.evaluation.music.bars import Bars
from kuosan.evaluation.music.faults import FAULTS, faults
from kuosan.evaluation.writing.statistics import RatioStatistic


def groove(bars: Bars) -> tuple[Tensor, Tensor]:
    """Eq. 1, as places shared and places compared, of every window."""
    onset, t = bars.onset.any(2), bars.pitch.shape[1]
    same, compared = torch.zeros(len(bars)).double(), torch.zeros(len(bars)).double()
    for length in bars.bar.unique().tolist():
        mine = bars.bar == length
        if length >= t:
            continue
        both = (bars.inside[mine, length:] & bars.inside[mine, :-length]).double()
        equal = (onset[mine, length:] == onset[mine, :-length]).double() * both
        same[mine], compared[mine] = equal.sum(1), both.sum(1)
    return same, compared


def density(bars: Bars) -> tuple[Tensor, Tensor]:
    """Notes, and bars."""
    return bars.onset.sum((1, 2)).double(), bars.bars


def pitch_range(bars: Bars) -> tuple[Tensor, Tensor]:
    """Semitones from the lowest note of a voice to its highest, and voices that sound."""
    heard = bars.pitch >= 0
    high = torch.where(heard, bars.pitch, -1).amax(1)
    low = torch.where(heard, bars.pitch, 1000).amin(1)
    sounds = heard.any(1)
    return torch.where(sounds, high - low, 0).sum(1).double(), sounds.sum(1).double()


def _fault(names: Sequence[str], bars: Bars) -> tuple[Tensor, Tensor]:
    found = faults(bars)
    return torch.stack([found[name] for name in names]).sum(0), bars.bars


STATISTICS = (
    RatioStatistic(
        "groove", "higher", "onsets", "share of places whose onset neighbouring bars share", groove
    ),
    RatioStatistic("notes_per_bar", "higher", "notes", "how busy it is", density),
    RatioStatistic(
        "voice_range", "higher", "semitones", "from a voice's lowest note to its highest", pitch_range
    ),
    *(
        RatioStatistic(f"{name}_per_bar", "lower", "voice leading", "", partial(_fault, (name,)), counts=True)
        for name in FAULTS
    ),
    RatioStatistic(
        "faults_per_bar",
        "lower",
        "voice leading",
        "all of these together",
        partial(_fault, FAULTS),
        counts=True,
    ),
)
