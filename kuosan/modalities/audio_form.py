"""The one form that all sounds of a data set are brought to, and how it is chosen.

    rate      the commonest of the files, halved while a window would have more than 2¹⁷ samples
    channels  2 where most files are stereo and their two sides differ, else 1
    hop       the power of two nearest to 12.5 ms; a window of the spectrum has 4 hops
    bands     one for every 36 mel (O'Shaughnessy 1987), in sixteens
    frames    what the shortest window has that holds 98 % of the sounds whole, at most 6 s

so that a state has no more numbers than a small machine can learn.  Each can be asked for.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from kuosan.errors import UserError
from kuosan.modalities.audio_file import SoundHeader
from kuosan.modalities.base import Choice

HOP_SECONDS, OVERLAP = 0.0125, 4
MEL_PER_BAND, BANDS_STEP = 36, 16
MOST_SAMPLES, LONGEST = 1 << 17, 6.0
WHOLE = 0.98  # of the sounds fit into the automatic window
STEP = 4  # frames, so that a network can take them in fours
RANGE = 80.0  # dB between the loudest band of the data and what counts as silence
LOWEST_RATE = 4_000


@dataclass(frozen=True)
class AudioForm:
    """Of sounds: `rate`, `channels`; of their spectra: samples of a `hop` and of a `window`, mel `bands`; `frames` of a
    state; and the level of the loudest band in dB, `peak`."""

    rate: int
    channels: int
    hop: int
    window: int
    bands: int
    frames: int
    peak: float = 0.0

    @property
    def seconds(self) -> float:
        """Of a state."""
        return self.frames * self.hop / self.rate

    @property
    def floor(self) -> float:
        """The level in dB that counts as silence."""
        return self.peak - RANGE

    @property
    def frame_rate(self) -> float:
        """Frames in a second."""
        return self.rate / self.hop

    def band_of(self, frequency: float) -> int:
        """The band whose middle is nearest."""
        place = mel_of(frequency) / mel_of(self.rate / 2) * (self.bands + 1) - 1
        return min(self.bands - 1, max(0, round(place)))

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, facts: dict[str, Any]) -> AudioForm:
        return cls(**{name: facts[name] for name in cls.__dataclass_fields__})


def mel_of(frequency: float) -> float:
    """Hertz as mel: 2595 log₁₀(1 + f/700) (O'Shaughnessy 1987)."""
    return 2595 * math.log10(1 + frequency / 700)


def form_at(rate: int, channels: int, frames: int = STEP) -> AudioForm:
    """The form's spectra at a rate."""
    hop = 2 ** max(4, round(math.log2(rate * HOP_SECONDS)))
    bands = BANDS_STEP * max(2, round(mel_of(rate / 2) / MEL_PER_BAND / BANDS_STEP))
    return AudioForm(rate, channels, hop, OVERLAP * hop, bands, frames)


def seconds_of(text: str | float, rate: float) -> float:
    """A length in seconds of "4s", "250ms", "120frames" (of ``rate`` in a second) or a number of frames.

    Raises `UserError` for anything else.
    """
    word = str(text).strip().lower()
    for suffix, unit in (("frames", 1 / rate), ("frame", 1 / rate), ("ms", 1e-3), ("s", 1.0), ("", 1 / rate)):
        if word.endswith(suffix):
            try:
                value = float(word.removesuffix(suffix)) * unit
            except ValueError:
                break
            if math.isfinite(value) and value > 0:
                return value
            break
    raise UserError(f"'{text}' is no length of sound: write 4s, 250ms, or 120frames.")


def choose_form(
    headers: Sequence[SoundHeader], stereo: bool, length: str | float = "auto", rate: str | float = "auto"
) -> tuple[AudioForm, list[Choice]]:
    """The common form of sounds with these headers, and why; ``stereo`` where their sides differ.

    Raises `UserError` for a rate or a length that cannot be.
    """
    found = Counter(header.rate for header in headers)
    usual, most = found.most_common(1)[0]
    if rate != "auto" and not (isinstance(rate, int | float) and LOWEST_RATE <= rate <= 192_000):
        raise UserError(
            f"data.rate={rate} cannot be: give samples a second, from {LOWEST_RATE:,} to 192,000, or auto."
        )
    seconds = np.sort([header.seconds for header in headers])
    if length == "auto":
        whole = float(seconds[min(len(seconds) - 1, math.ceil(WHOLE * len(seconds)) - 1)])
        if seconds[-1] <= 1.1 * whole:
            whole = float(seconds[-1])
        asked = min(LONGEST, whole)
    else:
        asked = seconds_of(length, form_at(usual if rate == "auto" else int(rate), 1).frame_rate)
    chosen = usual if rate == "auto" else int(rate)
    while rate == "auto" and chosen * asked > MOST_SAMPLES and chosen / 2 >= LOWEST_RATE:
        chosen //= 2
    form = form_at(chosen, 2 if stereo else 1)
    frames = STEP * max(1, math.ceil(round(asked * form.frame_rate, 6) / STEP))
    form = replace(form, frames=frames)
    return form, [
        _rate(form, usual, most, found, rate),
        _channels(form, headers),
        *_spectra(form, seconds, length),
    ]


def _rate(form: AudioForm, usual: int, most: int, found: Counter[int], asked: str | float) -> Choice:
    if asked != "auto":
        return "rate", f"{form.rate:,} Hz", "asked for; others are resampled"
    why = (
        "of all sounds"
        if len(found) == 1
        else f"of {most:,} of {sum(found.values()):,} sounds; others are resampled"
    )
    if form.rate != usual:
        why = (
            f"{usual:,} Hz would make {form.seconds:.3g} s more than {MOST_SAMPLES:,} samples, too many for a small "
            f"machine; data.rate={usual} has them"
        )
    return "rate", f"{form.rate:,} Hz", why


def _channels(form: AudioForm, headers: Sequence[SoundHeader]) -> Choice:
    several = sum(header.channels > 1 for header in headers)
    if form.channels == 2:
        return "channels", "stereo", f"{several:,} of {len(headers):,} sounds have sides that differ"
    why = (
        "all sounds"
        if not several
        else f"{several:,} of {len(headers):,} sounds have more: their mean is taken"
    )
    return "channels", "mono", why


def _spectra(form: AudioForm, seconds: Any, asked: str | float) -> list[Choice]:
    whole = int((seconds <= form.seconds + 1e-6).sum())
    why = f"holds {whole:,} of {len(seconds):,} sounds whole"
    if whole < len(seconds):
        why += "; longer ones are seen through windows"
    return [
        (
            "length",
            f"{form.seconds:.3g} s ({form.frames} frames)",
            f"asked for; {why}" if asked != "auto" else why,
        ),
        (
            "spectrum",
            f"{form.bands} mel bands, {1000 * form.hop / form.rate:.3g} ms a frame",
            f"{RANGE:.0f} dB below the loudest count as silence",
        ),
    ]
