"""Numbers of single sounds, from their samples.

With the power P of a bin at frequency f in frame t (Hann windows of 32 ms, every 16 ms; a window of 32 ms or more at
any rate), E the power of a frame, and L = 10 log₁₀ of the mean square of its samples, of which full scale is 0 dB,

    loudness     10 log₁₀ of the mean of E over frames within 40 dB of the loudest                dB          (1)
    silence      the share of frames that are more than 40 dB below the loudest                               (2)
    brightness   Σ f P / Σ P, the spectral centroid                                               Hz          (3)
    seconds      how long it is                                                                               (4)

and `mel_statistics` are mean and standard deviation over frames of the levels of 20 mel bands, no lower than 80 dB
below full scale, in units of 20 dB from -40 dB on: a feature space that needs no training.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from kuosan.modalities.audio_file import Sound
from kuosan.modalities.audio_mel import mel_bands, spectrum

FRAME = 0.016  # seconds
BELOW = 40.0  # dB
BANDS = 20
FLOOR = 1e-8  # of full scale: -80 dB
MIDDLE, UNIT = -40.0, 20.0  # dB


@dataclass(frozen=True)
class Trait:
    """A number of a sound: its unit, and the edges of the histogram that sets are compared by."""

    name: str
    unit: str
    edges: tuple[float, ...]

    def counts(self, values: Float[Tensor, " n"]) -> Float[Tensor, "n k"]:
        """A row for every sound, with a one where it falls; what is beyond the edges falls at the end."""
        inner = torch.tensor(self.edges[1:-1], dtype=values.dtype)
        return torch.nn.functional.one_hot(
            torch.bucketize(values.contiguous(), inner), len(self.edges) - 1
        ).double()


def _even(low: float, high: float, count: int) -> tuple[float, ...]:
    return tuple(low + (high - low) * i / count for i in range(count + 1))


TRAITS = (
    Trait("loudness", "dB", _even(-60, 0, 20)),
    Trait("silence", "", _even(0, 1, 20)),
    Trait("brightness", "Hz", tuple(50 * 2 ** (i / 2) for i in range(18))),  # half octaves to 18 kHz
    Trait("seconds", "s", tuple(0.05 * 2 ** (i / 3) for i in range(25))),  # thirds of a doubling to 12.8 s
)


def _power(sound: Sound) -> Float[Tensor, "k t"]:
    """P over full scale, of the mean of its channels, so that its sum over bins is the mean square."""
    hop = max(16, round(sound.rate * FRAME))
    x = torch.from_numpy(sound.samples).mean(1)
    x = torch.nn.functional.pad(x, (0, -len(x) % hop or (hop if not len(x) else 0)))
    square = spectrum(x[None], 2 * hop, hop)[0].abs().square()
    square[1:-1] *= 2  # the negative frequencies
    return square / (2 * hop * 0.375 * 2 * hop)  # 0.375: the mean square of a Hann window


def traits(sounds: Sequence[Sound]) -> dict[str, Float[Tensor, " n"]]:
    """Eqs. (1) – (4) of each sound, by name."""
    rows = []
    for sound in sounds:
        power = _power(sound).double()
        frame = power.sum(0)
        heard = frame > frame.max() * 10 ** (-BELOW / 10)
        loudness = 10 * (frame[heard].mean() if heard.any() else frame.max()).clamp_min(FLOOR).log10()
        f = torch.linspace(0, sound.rate / 2, len(power)).double()
        brightness = (f[:, None] * power).sum() / power.sum().clamp_min(1e-30)
        silence = 1 - heard.double().mean()
        rows.append([float(loudness), float(silence), float(brightness), sound.seconds])
    values = torch.tensor(rows, dtype=torch.float64).reshape(-1, len(TRAITS))
    return {trait.name: values[:, i] for i, trait in enumerate(TRAITS)}


def mel_statistics(sounds: Sequence[Sound]) -> Float[Tensor, "n d"]:
    """Means, then standard deviations, of the levels of bands."""
    rows = []
    for sound in sounds:
        power = _power(sound)
        bands = mel_bands(sound.rate, 2 * (len(power) - 1), BANDS)
        level = (10 * (bands @ power).clamp_min(FLOOR).log10() - MIDDLE) / UNIT
        rows.append(torch.cat([level.mean(1), level.std(1, correction=0)]))
    return torch.stack(rows) if rows else torch.zeros(0, 2 * BANDS)
