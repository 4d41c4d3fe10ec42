"""Sounds for tests: tones that fade, in files of every kind."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile

from kuosan.modalities import Sound
from kuosan.modalities.audio_file import quantised

RATE = 8_000


def tone(
    frequency: float, seconds: float = 0.25, rate: int = RATE, channels: int = 1, gain: float = 0.5
) -> Sound:
    """A harmonic tone that fades, rounded to 16 bits as files hold it."""
    t = np.arange(round(seconds * rate)) / rate
    wave = (
        sum(np.sin(2 * np.pi * k * frequency * t) / k for k in (1, 2, 3))
        * np.exp(-4 * t / seconds)
        * gain
        / 2
    )
    samples = quantised(np.repeat(np.asarray(wave, np.float32)[:, None], channels, 1)) / np.float32(32_768)
    return Sound(samples.astype(np.float32), rate)


def save(path: Path, sound: Sound, subtype: str = "PCM_16") -> Path:
    """A file as another program would write it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, sound.samples, sound.rate, subtype=subtype)
    return path


def tones(folder: Path, count: int = 40, rate: int = RATE, seconds: float = 0.25) -> Path:
    """A folder with a class of low tones and one of high ones, of various lengths."""
    for i in range(count):
        kind, base = ("low", 200.0) if i % 2 else ("high", 900.0)
        save(folder / kind / f"{i:03d}.wav", tone(base * 1.02**i, seconds * (0.6 + 0.4 * (i % 5) / 4), rate))
    return folder
