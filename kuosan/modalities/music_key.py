"""The key of a piece from its notes (Krumhansl 1990, ch. 4: the algorithm of Krumhansl and Schmuckler).

The twelve sums of durations, one for each pitch class, are correlated with the profile that listeners gave every tone
in a key (Krumhansl & Kessler 1982), turned to each of the twelve tonics, major and minor; the key of the highest
correlation is the answer:

    key = argmax_{k, m} corr(d, turn_k(profile_m))                                                  (1)

Turning the notes turns the answer: a piece transposed by n semitones is found n semitones higher.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kuosan.modalities.music_score import Score, key_name, parse_key

MAJOR = (6.35, 2.23, 3.48, 2.33, 4.38, 4.09, 2.52, 5.19, 2.39, 3.66, 2.29, 2.88)
MINOR = (6.33, 2.68, 3.52, 5.38, 2.60, 3.53, 2.54, 4.75, 3.98, 2.69, 3.34, 3.17)


def _profiles() -> NDArray[np.float64]:
    """The 24 profiles, C major … B minor, without their means and of length 1."""
    rows = np.array([np.roll(profile, tonic) for profile in (MAJOR, MINOR) for tonic in range(12)])
    rows = rows - rows.mean(1, keepdims=True)
    found: NDArray[np.float64] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return found


_PROFILES = _profiles()


def pitch_classes(score: Score) -> NDArray[np.float64]:
    """Quarters that each pitch class sounds, (12,)."""
    found = np.zeros(12)
    for part in score.parts:
        for note in part.notes:
            found[note.pitch % 12] += note.length
    return found


def key_of_durations(durations: NDArray[np.float64]) -> str:
    """Eq. 1; "" where no pitch class stands out."""
    d = durations - durations.mean()
    if not float(d @ d) > 0:
        return ""
    best = int(np.argmax(_PROFILES @ d))  # all profiles have one length, and d is the same for all
    return key_name(best % 12, best >= 12)


def find_key(score: Score) -> str:
    """The key of a score's notes, "G major"; "" where there are none, or all twelve sound alike."""
    return key_of_durations(pitch_classes(score))


def transposed_key(key: str, semitones: int) -> str:
    """The key that a key becomes; "" stays."""
    found = parse_key(key)
    return key_name((found[0] + semitones) % 12, found[1]) if found else ""
