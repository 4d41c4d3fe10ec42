"""Which .npz holds sounds: told by the names of its arrays, of which one is of sounds and another their rate."""

from __future__ import annotations

import zipfile
from pathlib import Path

SOUNDS = ("audio", "audios", "sound", "sounds", "wave", "waves", "waveform", "waveforms", "signal", "signals")
RATES = ("sample_rate", "samplerate", "sampling_rate", "rate", "sr", "fs")


def holds_sounds(path: Path) -> bool:
    """True where the names in an .npz are those of sounds with a rate; nothing is decoded."""
    try:
        with zipfile.ZipFile(path) as file:
            names = {name.removesuffix(".npy").lower() for name in file.namelist()}
    except (OSError, zipfile.BadZipFile):
        return False
    return bool(names & set(SOUNDS)) and bool(names & set(RATES))
