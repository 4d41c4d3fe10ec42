"""How near a sound that was made of its spectrum is to the sound itself.

With the spectra X, Y of two sounds in dB, no lower than 80 dB below the loudest of the data,

    log-spectral distance = mean over frames of √(mean over bins of (X - Y)²)        dB                      (1)

(Gray & Markel 1976), the mean over windows of 1, 2, 4 and 8 hops, so that neither time nor pitch is favoured; and

    SI-SDR = 10 log₁₀ (|a x|² / |a x - y|²),        a = ⟨x, y⟩ / |x|²                dB                      (2)

(Le Roux et al. 2019), which compares samples.  A log-mel spectrum has no phases, and no sound made of it can have those
of the original: (2) is low for all of them, however alike they sound.  It is told because others tell it.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from kuosan.modalities.audio_form import AudioForm
from kuosan.modalities.audio_mel import loudest_magnitude, spectrum

RESOLUTIONS = (1, 2, 4, 8)  # hops in a window
LEAST = 1e-4  # of the loudest: 80 dB


def spectra_at(x: Float[Tensor, "b n"], form: AudioForm) -> list[Float[Tensor, "b k t"]]:
    """Magnitudes at every resolution, as parts of the data's loudest."""
    found = []
    for hops in RESOLUTIONS:
        window = max(16, hops * form.hop)
        found.append(
            spectrum(x, window, window // 4).abs() * (form.window / window / loudest_magnitude(form))
        )
    return found


def log_spectral_distance(
    x: Float[Tensor, "b n"], y: Float[Tensor, "b n"], form: AudioForm
) -> Float[Tensor, " b"]:
    """Eq. (1) of each pair."""
    pairs = zip(spectra_at(x, form), spectra_at(y, form), strict=True)
    found = [
        (20 * (a.clamp_min(LEAST).log10() - b.clamp_min(LEAST).log10())).square().mean(1).sqrt().mean(1)
        for a, b in pairs
    ]
    return torch.stack(found).mean(0)


def si_sdr(x: Float[Tensor, "b n"], y: Float[Tensor, "b n"]) -> Float[Tensor, " b"]:
    """Eq. (2) of each pair, x being the original."""
    a = (x * y).sum(-1, keepdim=True) / x.square().sum(-1, keepdim=True).clamp_min(1e-20)
    near, far = (a * x).square().sum(-1), (a * x - y).square().sum(-1)
    return 10 * (near.clamp_min(1e-20) / far.clamp_min(1e-20)).log10()


def multi_resolution(
    x: Float[Tensor, "b n"], y: Float[Tensor, "b n"], form: AudioForm
) -> Float[Tensor, " b"]:
    """The loss of Yamamoto, Song & Kim 2020, eqs. 5 – 7, at the resolutions above: how far logarithms of magnitudes are
    apart, and magnitudes themselves, as a part of the original's."""
    total = torch.zeros(len(x)).to(x)
    for a, b in zip(spectra_at(x, form), spectra_at(y, form), strict=True):
        logs = ((a + LEAST).log() - (b + LEAST).log()).abs().mean((1, 2))
        size = a.square().sum((1, 2)).sqrt()
        parts = ((a - b).square().sum((1, 2)) + 1e-12).sqrt() / (size + LEAST * a[0].numel() ** 0.5)
        total = total + logs + 0.5 * parts
    return total / len(RESOLUTIONS)
