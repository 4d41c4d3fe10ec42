"""Scores as sound: a small synthesiser.

A note of frequency f is a sum of harmonics that fade, each the faster the higher it is, as those of a plucked or struck
string do,

    s(t) = Σ_k k^-b sin(2π k f t) exp(-t k^½ / τ),        k f < r/2,                                  (1)

with a rise of 5 ms and a fall of 60 ms after its end. Programs of General MIDI that hold their tone (organs, strings,
winds: 16 … 23, 40 … 79) do not fade while they are held. It is the same sound on every machine; a SoundFont sounds
better where there is one (`render_soundfont`).
"""

from __future__ import annotations

import io
import wave
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kuosan.errors import UserError
from kuosan.modalities.music_score import Score

RATE, FONT_RATE = 22_050, 44_100
LONGEST = 1_200.0  # seconds that are rendered
HARMONICS = 12
BRIGHTNESS, FADE = 1.3, 0.7  # b; τ in seconds at middle C
RISE, FALL = 0.005, 0.06
_HELD = (*range(16, 24), *range(40, 80))

Wave = NDArray[np.float32]


def tone(frequency: float, seconds: float, held: bool, rate: int = RATE) -> Wave:
    """Eq. 1 of a note of so many seconds, its fall included."""
    n = int((seconds + FALL) * rate)
    t = np.arange(n, dtype=np.float32) / rate
    fade = FADE * (261.6 / frequency) ** 0.3
    out = np.zeros(n, dtype=np.float32)
    for k in range(1, HARMONICS + 1):
        if k * frequency >= 0.45 * rate:
            break
        part = np.sin((2 * np.pi * k * frequency) * t) * (k**-BRIGHTNESS)
        out += part if held else part * np.exp(-t * (k**0.5 / fade))
    out *= np.minimum(1, t / RISE)
    out *= np.clip((n / rate - t) / FALL, 0, 1)
    return out


def render(score: Score, rate: int = RATE, seconds: float = LONGEST) -> Wave:
    """The first so many seconds of a score, mono, at a peak of 0.9; silence where it has no note."""
    pace = 60 / score.tempo
    total = min(seconds, score.length * pace + FALL + 0.3)
    out = np.zeros(max(1, int(total * rate)), dtype=np.float32)
    known: dict[tuple[int, float, bool], Wave] = {}
    for part in score.parts:
        held = part.program in _HELD
        for note in part.notes:
            begin = int(note.start * pace * rate)
            if begin >= len(out):
                continue
            what = (note.pitch, min(note.length * pace, seconds), held)
            if what not in known:
                known[what] = tone(440 * 2 ** ((note.pitch - 69) / 12), what[1], held, rate)
            sound = known[what][: len(out) - begin]
            out[begin : begin + len(sound)] += sound
    peak = float(np.abs(out).max())
    return out * (0.9 / peak) if peak > 0 else out


def render_soundfont(score: Score, font: Path, rate: int = FONT_RATE) -> Wave:
    """A score as a SoundFont (.sf2, .sf3) sounds it, mono.

    Raises:
        UserError: no such file, or none that is understood.
    """
    import tempfile

    import symusic

    from kuosan.modalities.music_midi import write_midi

    if not font.is_file():
        raise UserError(f"there is no SoundFont at {font}: give a .sf2 or .sf3 file")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "score.mid"
        write_midi(score, path)
        try:
            player: Any = symusic.Synthesizer(str(font), rate, 0)
            found = np.asarray(player.render(symusic.Score(str(path)), True), dtype=np.float32)
        except (RuntimeError, ValueError) as error:
            raise UserError(f"the SoundFont {font} cannot be used ({error}): give another one") from None
    return np.ascontiguousarray(found.mean(0))


def wave_bytes(sound: Wave, rate: int = RATE) -> bytes:
    """A 16-bit mono WAV file."""
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((np.clip(sound, -1, 1) * 32767).astype("<i2").tobytes())
    return out.getvalue()


def write_wav(score: Score, path: Path, font: Path | None = None) -> None:
    """A score as the synthesiser above renders it, or as a SoundFont does."""
    if font is None:
        path.write_bytes(wave_bytes(render(score)))
    else:
        path.write_bytes(wave_bytes(render_soundfont(score, font), FONT_RATE))
