"""The one form of all clips of a data set: how large, how fast, how long, and why.

size      as for pictures, see `image_format`
rate      where most clips have no more frames than a window: their own. Else the largest r/k of at most 12.5 frames a
          second, r the middle rate of the files and k whole, so that every k-th frame of such a file is kept
length    as many frames as three of four clips have, 16 at most, and no more than keep a state within 150,000
          numbers, which a small machine can train on (four times as many where a codec makes latents of them); the
          nearest multiple of 4, unless all clips have one length
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

import numpy as np

from kuosan.errors import UserError
from kuosan.modalities.base import Choice
from kuosan.modalities.video_file import Footage
from kuosan.modalities.video_time import frames_of

USUAL_RATE = 8.0  # where nothing tells
FASTEST = 12.5
LONGEST = 16
MOST_NUMBERS = 150_000
_STEP, _FEWEST = 4, 2


def choose_rate(sources: Sequence[Footage], asked: float | str) -> tuple[float, Choice]:
    """Frames a second, and why.

    Raises:
        UserError: what is asked for is no rate.
    """
    if asked != "auto":
        try:
            rate = float(asked)
        except ValueError:
            rate = 0.0
        if not 0 < rate < math.inf:
            raise UserError(f"data.rate={asked} is no number of frames a second: give one above 0, or auto")
        return rate, ("rate", f"{rate:g} frames a second", "as asked for")
    timed = [(source.rate, source.count) for source in sources if source.rate]
    rates = [rate for rate, _ in timed]
    if not rates:
        return USUAL_RATE, ("rate", f"{USUAL_RATE:g} frames a second", "these clips do not say theirs")
    middle = statistics.median_low(rates)
    frames = statistics.median_low([count for _, count in timed])
    k = 1 if frames <= LONGEST else max(1, math.ceil(middle / FASTEST - 1e-6))
    rate = round(middle / k, 3)
    why = "their own" if k == 1 else f"every {_ordinal(k)} frame of {middle:g} a second"
    if len({round(r, 2) for r in rates}) > 1:
        why += "; clips of other rates have frames left out or repeated"
    return rate, ("rate", f"{rate:g} frames a second", why)


def choose_length(
    lengths: Sequence[int], numbers: int, rate: float, asked: int | str, latents: bool = False
) -> tuple[int, list[Choice]]:
    """Frames of a window over works of so many, of so many `numbers` each, and why; and what becomes of the rest."""
    n = np.asarray(lengths)
    if asked != "auto":
        length, why = frames_of(asked, rate), "as asked for"
    else:
        usual = int(np.quantile(n, 0.25, method="lower"))
        most = max(_STEP, min(LONGEST, (4 if latents else 1) * MOST_NUMBERS // numbers))
        length, why = min(usual, most), "three of four clips have as many"
        if (n == usual).all() and usual <= most:
            why = "all clips have as many"
        else:
            length = max(_STEP, min(most // _STEP, round(length / _STEP)) * _STEP)
            if usual > most:
                why = f"no more, so that a small machine can train on it ({numbers * length:,} numbers)"
    length = max(_FEWEST, length)
    choices: list[Choice] = [("window", f"{length} frames, {length / rate:.2g} s", why)]
    longer, shorter = int((n > length).sum()), int((n < length).sum())
    if longer:
        why = "seen through windows; in training these slide over all of them"
        choices.append(("longer clips", f"{longer:,} of {len(n):,}", why))
    if shorter:
        choices.append(("shorter clips", f"{shorter:,} of {len(n):,}", "hold their last frame"))
    return length, choices


def _ordinal(k: int) -> str:
    return {2: "second", 3: "third"}.get(k, f"{k}th")
