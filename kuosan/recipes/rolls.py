"""Music as rolls: what its reader is asked for, and what is measured of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from kuosan.evaluation.found import Found
from kuosan.evaluation.music.bars import Bars, bars_of
from kuosan.evaluation.music.evaluate import measure_bars
from kuosan.modalities import RollModality, Score
from kuosan.modalities.music_form import END
from kuosan.modalities.music_lanes import lines_of

if TYPE_CHECKING:
    from kuosan.recipes.measures import Items


def measure(found: Found, items: Items) -> None:
    """Histograms, statistics and voice leading of the notes, in the voices that those of the data need."""
    modality = items.modality
    assert isinstance(modality, RollModality)
    samples, real, floor = (bars(modality, side) for side in (items.samples, items.reference, items.floor))
    measure_bars(found, samples, real, floor, items.note)


def bars(modality: RollModality, scores: Sequence[Score]) -> Bars:
    """Scores of passages as what is measured: of notes at once that are more than voices some are left out."""
    form = modality.form
    x = torch.full((len(scores), modality.steps, form.lanes), END, dtype=torch.int64)
    for window, score in zip(x, scores, strict=True):
        rows, _ = form.rows(lines_of(score), score.metre, score.pickup, score.length)
        found = torch.from_numpy(rows[: modality.steps])
        window[: len(found)] = found
    return bars_of(form, x.flatten(1), [score.metre for score in scores])
