"""Sounds: the vocoder, which is trained before all else.

The diffusion of states needs no vocoder, and everything that plays does: so it comes first, from a share of the budget,
and is kept beside the recipe as a tokeniser is.  What it takes is no longer there for training.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from kuosan.codecs.vocoding import Vocoding, train_vocoder
from kuosan.modalities import AudioModality, Dataset
from kuosan.recipes.schema import Recipe
from kuosan.recipes.settled import Choice
from kuosan.training.budget import Budget

SHARE, MOST_SECONDS = 0.05, 120.0  # of a budget of time
MOST_STEPS, PART = 400, 4  # of one of steps, at most a fourth


def with_vocoder(
    data: Dataset, recipe: Recipe, device: torch.device, seconds: float | None
) -> tuple[Dataset, Choice, float]:
    """The data, whose sounds are made by a vocoder that was trained on the training sounds where that is better; the
    choice in words, and the seconds that it took.

    Args:
        seconds: that a budget of time has left.
    """
    modality, budget = data.modality, Budget.parse(recipe.budget)
    assert isinstance(modality, AudioModality)
    asked = recipe.data.vocoder
    if asked == 0:
        return data, ("vocoder", "Griffin-Lim", "asked for"), 0.0
    steps, share = (asked if isinstance(asked, int) else None), None
    if steps is None:
        batch = recipe.training.batch
        most = budget.steps_of(batch if isinstance(batch, int) else 64)
        steps = None if most is None else max(1, min(MOST_STEPS, most // PART))
        share = None if steps else min(MOST_SECONDS, SHARE * (seconds or 0.0))
    after, found = train_vocoder(
        modality, data.train.x, data.val.x, seed=recipe.seed, steps=steps, seconds=share, device=device
    )
    sides = (replace(split, modality=after) for split in (data.train, data.val))
    train, val = sides
    return replace(data, modality=after, train=train, val=val), _choice(found), found.seconds


def _choice(found: Vocoding) -> Choice:
    which = f"of {found.sounds} {'held-out' if found.held_out else 'training'} sounds"
    why = (
        f"log-spectral distance {found.trained:.2f} dB after {found.steps:,} steps in {found.seconds:.0f} s, "
        f"{found.plain:.2f} dB with Griffin-Lim alone, {which}"
    )
    return "vocoder", "trained" if found.better else "Griffin-Lim", why
