"""Sounds as log-mel spectra, and the law that they keep.

With the short-time Fourier transform X of a sound (Hann windows of w samples, every hop, of which frame k is centred at
sample k·hop) and triangular mel bands B (f × bins; Davis & Mermelstein 1980), scaled so that a full-scale sine is at
0 dB (to 2 dB, where it lies between bands),

    P = B |X|² · (16 / w²),       L = 10 log₁₀ P        in dB                                                (1)
    state = S + (1 - S) · (L - floor) / (peak - floor)  clipped to S … 1,        S = -0.8                    (2)

and a frame past the end of a sound is -1 in every band, so that a state says how long its sound is:

    length = 1 + the last frame whose mean over the bands is above (S - 1) / 2                               (3)

What (1) loses is the phase, and what lies between two bands; (2) loses what is 80 dB below the loudest.  (3) is exact
for every state that is encoded, and holds for one that is generated with an error of less than 0.1 in the mean.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import torch
from jaxtyping import Complex, Float
from torch import Tensor

from kuosan.modalities.audio_form import AudioForm, mel_of

SILENCE, PAST = -0.8, -1.0
QUIET = 1e-12  # power of what is not there: -120 dB


@cache
@torch.inference_mode(False)  # whoever asks first: training uses them too
def mel_bands(rate: int, window: int, bands: int) -> Float[Tensor, "f k"]:
    """B of eq. (1): triangles of height 1, a band wide each way, evenly spread in mel."""
    edges = 700 * (10 ** (np.linspace(0, mel_of(rate / 2), bands + 2) / 2595) - 1)
    bins = np.linspace(0, rate / 2, window // 2 + 1)
    rise = (bins - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    fall = (edges[2:, None] - bins) / (edges[2:] - edges[1:-1])[:, None]
    weights = np.clip(np.minimum(rise, fall), 0, None)
    thin = weights.sum(1) < 0.5  # narrower than a bin: it has the nearest
    nearest = np.abs(bins[None] - edges[1:-1, None]).argmin(1)
    weights[thin, nearest[thin]] = 1.0
    return torch.from_numpy(weights.astype(np.float32))


@cache
@torch.inference_mode(False)
def unmixing(rate: int, window: int, bands: int) -> Float[Tensor, "k f"]:
    """The pseudo-inverse of `mel_bands`."""
    return torch.linalg.pinv(mel_bands(rate, window, bands).double()).float()


@cache
@torch.inference_mode(False)
def hann(window: int) -> Float[Tensor, " w"]:
    return torch.hann_window(window)


def spectrum(x: Float[Tensor, "b n"], window: int, hop: int) -> Complex[Tensor, "b k t"]:
    """X of eq. (1), of n/hop frames (n a whole number of them)."""
    found = torch.stft(
        x, window, hop, window=hann(window).to(x), center=True, pad_mode="constant", return_complex=True
    )
    return found[..., : x.shape[-1] // hop]


def waveform(spectra: Complex[Tensor, "b k t"], window: int, hop: int) -> Float[Tensor, "b n"]:
    """The sound whose spectrum is nearest to these (Griffin & Lim 1984, eq. 6), n = t·hop."""
    length = spectra.shape[-1] * hop
    shape = hann(window).to(spectra.real)
    return torch.istft(spectra, window, hop, window=shape, center=True, length=length)


def levels(x: Float[Tensor, "b n"], form: AudioForm) -> Float[Tensor, "b f t"]:
    """L of eq. (1)."""
    power = spectrum(x, form.window, form.hop).abs().square() * (16 / form.window**2)
    bands = mel_bands(form.rate, form.window, form.bands).to(power)
    return 10 * (bands @ power).clamp_min(QUIET).log10()


def to_unit(level: Float[Tensor, "*b"], form: AudioForm) -> Float[Tensor, "*b"]:
    """Eq. (2)."""
    part = (level - form.floor) / (form.peak - form.floor)
    return (SILENCE + (1 - SILENCE) * part).clamp(SILENCE, 1.0)


def from_unit(x: Float[Tensor, "*b"], form: AudioForm) -> Float[Tensor, "*b"]:
    """The level of a state's number; of one below silence, silence."""
    part = (x.clamp(SILENCE, 1.0) - SILENCE) / (1 - SILENCE)
    return form.floor + (form.peak - form.floor) * part


def frames_of(x: Float[Tensor, "b *f t"]) -> list[int]:
    """Eq. (3) of states whose last side is time; at least 1."""
    sounds = x.flatten(1, -2).mean(1) > (SILENCE + PAST) / 2
    place = torch.arange(1, x.shape[-1] + 1)
    return [max(1, int(n)) for n in (sounds * place).amax(1)]


def magnitudes(level: Float[Tensor, "b f t"], form: AudioForm) -> Float[Tensor, "b k t"]:
    """|X| of eq. (1), as far as bands tell it: the least that has these levels, without its negative parts.  What is at
    the floor is nothing."""
    power = torch.where(level > form.floor + 1e-3, 10 ** (level / 10), torch.zeros_like(level))
    back = unmixing(form.rate, form.window, form.bands).to(power)
    return (back @ power).clamp_min(0).sqrt() * (form.window / 4)


def loudest_magnitude(form: AudioForm) -> float:
    """|X| of a full-scale sine at the data's loudest."""
    return form.window / 4 * math.pow(10, form.peak / 20)
