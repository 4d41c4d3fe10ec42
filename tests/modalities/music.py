"""Scores to test with."""

from __future__ import annotations

import random
from collections.abc import Sequence

from kuosan.modalities.music_score import Metre, Note, Part, Score


def scale(pitches: Sequence[int], length: float = 1.0) -> tuple[Note, ...]:
    """One note after another."""
    return tuple(Note(k * length, length, pitch) for k, pitch in enumerate(pitches))


def some_score(
    seed: int,
    metre: Metre | None = (4, 4),
    step: int = 4,
    voices: int = 3,
    pickup: float = 0.0,
    bars: int = 4,
) -> Score:
    """Voices of random notes and rests on a grid of ``step`` steps of a quarter, that end with a bar."""
    draw = random.Random(seed)
    above, below = metre or (4, 4)
    end = round((pickup + bars * above * 4 / below) * step)
    parts = []
    for v in range(voices):
        notes, at = [], 0
        while at < end:
            length = min(draw.choice((1, 2, 3, 4, 6)), end - at)
            if at == 0 or draw.random() < 0.85:
                notes.append(Note(at / step, length / step, draw.randrange(40 + 8 * v, 60 + 8 * v)))
            at += length
        parts.append(Part(tuple(notes), f"Voice {v + 1}", 19))
    return Score(tuple(parts), metre, pickup, 96.0, "A minor", "a piece", end=end / step)
