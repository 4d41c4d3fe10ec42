"""Measures a set of sounds against real ones, in what needs no network (features.py).

    fd_mel, kd_mel, kd_rbf_mel          distances of the laws of mel statistics
    loudness_overlap, silence_overlap, brightness_overlap, seconds_overlap        of histograms, one count a sound
    fd_clap, …                          distances in the features of a network that hears, where its folder is given

Real sounds are compared as they come out of their own states, so that what a vocoder loses is on both sides; it is
measured apart, as the ceiling of the codec.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from kuosan.evaluation.audio.features import BANDS, TRAITS, mel_statistics, traits
from kuosan.evaluation.found import Found, Sides, distances
from kuosan.evaluation.music.histograms import Overlap
from kuosan.modalities.audio_file import Sound

SPACE = "mel"


def evaluate_sounds(
    found: Found,
    samples: Sequence[Sound],
    reference: Sequence[Sound],
    pool: Sequence[Sound],
    note: str,
    encoder: Path | None = None,
) -> None:
    """Fill ``found`` with every measurement that these sounds allow, ``pool`` being real ones for the floor;
    ``encoder`` is the folder of a network that hears (`hearing`)."""
    what = f"mean and standard deviation over time of {BANDS} log-mel bands"
    found.spaces[SPACE] = {"name": SPACE, "what": what, "dimensions": 2 * BANDS}
    sides = (samples, reference, pool)
    rows = [mel_statistics(sounds) for sounds in sides]
    distances(found, SPACE, Sides(rows[0], rows[1], rows[2], note))
    numbers = [traits(sounds) for sounds in sides]
    for trait in TRAITS:
        mine, theirs, others = (side[trait.name] for side in numbers)
        means = ", ".join(
            f"{what} {float(values.mean()):.3g}"
            for what, values in (("samples", mine), ("real", theirs))
            if len(values)
        )
        unit = f" ({trait.unit})" if trait.unit else ""
        words = f"mean{unit}: {means}; {note}"
        counts = Sides(trait.counts(mine), trait.counts(theirs), trait.counts(others), words)
        found.compare(f"{trait.name}_overlap", Overlap(), counts, trait.name)
    if encoder is not None:
        from kuosan.evaluation.audio.hearing import Hearing

        space = Hearing(encoder)
        found.spaces[space.name] = space.describe()
        heard = [space(sounds) for sounds in sides]
        distances(found, space.name, Sides(heard[0], heard[1], heard[2], note))
