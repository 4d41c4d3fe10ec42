"""Phases for magnitudes: a sound whose spectrum has nearly the magnitudes that are asked for.

Griffin & Lim (1984) alternate between the spectra with these magnitudes and those that some sound has,

    c_n = P(m · e^{i∠t_{n-1}}),        t_n = c_n + α (c_n - c_{n-1})                                         (1)

where P is the spectrum of the nearest sound, with the momentum α = 0.99 of Perraudin, Balazs & Søndergaard (2013).
Without a start, phases begin as those of a pulse in the middle of every window turned by a fixed pseudo-random angle,
the same for every sound, so that a sound never depends on what is decoded beside it.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from kuosan.modalities.audio_mel import spectrum, waveform

MOMENTUM = 0.99
ROUNDS = 32


def griffin_lim(
    m: Float[Tensor, "b k t"],
    window: int,
    hop: int,
    rounds: int = ROUNDS,
    phase: Complex[Tensor, "b k t"] | None = None,
) -> Complex[Tensor, "b k t"]:
    """Phases, as numbers of modulus 1, after so many rounds of eq. (1), from ``phase`` or from a fixed start."""
    angle = _start(m) if phase is None else phase
    before = torch.zeros_like(angle)
    for _ in range(rounds):
        found = spectrum(waveform(m * angle, window, hop), window, hop)
        angle = _unit(found + MOMENTUM * (found - before))
        before = found
    return angle


def _unit(z: Complex[Tensor, "b k t"]) -> Complex[Tensor, "b k t"]:
    size = z.abs()
    return torch.where(size > 0, z / size.clamp_min(1e-30), torch.ones_like(z))


def _start(m: Float[Tensor, "b k t"]) -> Complex[Tensor, "b k t"]:
    generator = torch.Generator().manual_seed(0)
    angle = torch.rand(m.shape[2], m.shape[1], generator=generator).T.to(m) * (2 * math.pi)
    return torch.polar(torch.ones_like(angle), angle).expand(m.shape).clone()
