"""Trains the vocoder of sounds: seconds or steps, the same bits from the same seed and number of steps.

Every step takes stretches of the training sounds, makes states of them and sounds of these, and lowers

    multi_resolution(x, x̂) + ½ mean |log |X| - log |X̂||                                                     (1)

(`sound_trip`; the second term teaches magnitudes at once, where the first must come through the phases).  At the end
the vocoder is kept where held-out sounds are nearer to their round trips with it than with Griffin-Lim alone, and else
not: after a few seconds, or for sounds that bands already tell in full, arithmetic is better.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from kuosan.codecs.sound_trip import LEAST, log_spectral_distance, multi_resolution
from kuosan.core.random import Seeds
from kuosan.modalities.audio import AudioModality, new_vocoder
from kuosan.modalities.audio_form import AudioForm
from kuosan.modalities.audio_mel import levels, loudest_magnitude, spectrum, to_unit, waveform
from kuosan.modalities.audio_storage import Sounds
from kuosan.modalities.audio_vocoder import Vocoder, sounded, spectra

BATCH, STRETCH = 16, 32  # stretches of so many frames
RATE, CLIP, WARMUP = 2e-3, 5.0, 20
MOST_TRIPS, LONGEST_TRIP = 24, 256  # sounds, and frames of each, that decide


@dataclass(frozen=True)
class Vocoding:
    """What a training came to: steps, seconds, the log-spectral distance of round trips in dB with the vocoder and
    without, of so many ``held_out`` (or training) sounds."""

    steps: int
    seconds: float
    trained: float
    plain: float
    sounds: int
    held_out: bool

    @property
    def better(self) -> bool:
        return self.trained < self.plain


def train_vocoder(
    modality: AudioModality,
    train: Sounds,
    val: Sounds,
    *,
    seed: int = 0,
    steps: int | None = None,
    seconds: float | None = None,
    device: torch.device | str = "cpu",
) -> tuple[AudioModality, Vocoding]:
    """The modality with a vocoder trained for so many steps or seconds, or without one where it is no better."""
    if steps is None and seconds is None:
        raise ValueError("a training needs an end: steps or seconds")
    form = modality.form
    vocoder = new_vocoder(form, torch.Generator().manual_seed(Seeds.of(seed, 1).fold("vocoder").number()))
    vocoder.to(device)
    optimizer = torch.optim.AdamW(vocoder.parameters(), lr=RATE, betas=(0.8, 0.99), weight_decay=0.0)
    started, step, done = time.monotonic(), 0, 0.0
    while done < 1:
        x = _stretches(train, step, seed).to(device)
        optimizer.param_groups[0]["lr"] = RATE * min(1.0, (step + 1) / WARMUP) * (1 - done) ** 0.7
        loss = vocoder_loss(vocoder, x, form).mean()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(vocoder.parameters(), CLIP)
        if torch.isfinite(norm):
            optimizer.step()
        optimizer.zero_grad()
        step += 1
        past = time.monotonic() - started
        done = step / steps if steps is not None else past / max(seconds or 0.0, 1e-9)
    vocoder = vocoder.to("cpu").requires_grad_(False).eval()
    sounds = val if len(val) else train
    trained, plain = (_trips(sounds, form, one) for one in (vocoder, None))
    count, seconds = min(MOST_TRIPS, len(sounds)), time.monotonic() - started
    found = Vocoding(step, seconds, trained, plain, count, len(val) > 0)
    return modality.with_vocoder(vocoder if found.better else None), found


def vocoder_loss(vocoder: Vocoder, x: Float[Tensor, "b n"], form: AudioForm) -> Float[Tensor, " b"]:
    """Eq. (1) of sounds in whole frames."""
    made = spectra(vocoder, to_unit(levels(x, form), form), form)
    real = spectrum(x, form.window, form.hop).abs()
    least = LEAST * loudest_magnitude(form)
    logs = ((real + least).log() - (made.abs() + least).log()).abs().mean((1, 2))
    return multi_resolution(x, waveform(made, form.window, form.hop), form) + 0.5 * logs


def _stretches(sounds: Sounds, step: int, seed: int) -> Float[Tensor, "b n"]:
    """Stretches of sounds that are chosen by the step's number, of one channel each, filled up with silence."""
    draws = Seeds.of(seed, BATCH).fold("stretch", step).uniform(torch.empty(BATCH, 3, dtype=torch.float64))
    hop = sounds.samples.shape[2]
    x = torch.zeros(BATCH, STRETCH * hop)
    for row, (which, where, side) in zip(x, draws.tolist(), strict=True):
        i = int(which * len(sounds))
        begin, end = int(sounds.levels.start[i]), int(sounds.levels.stop[i])
        first = begin + int(where * max(1, end - begin - STRETCH // 2))
        rows = sounds.samples[first : min(end, first + STRETCH), int(side * sounds.samples.shape[1])]
        row[: rows.numel()] = rows.flatten().float() / 32_768
    return x


def _trips(sounds: Sounds, form: AudioForm, vocoder: Vocoder | None) -> float:
    """The mean log-spectral distance of sounds, evenly spread, to what comes of their states."""
    count = min(MOST_TRIPS, len(sounds))
    found = []
    for k in range(count):
        x = sounds.wave(k * len(sounds) // count)[..., : LONGEST_TRIP * form.hop]
        y = sounded(to_unit(levels(x, form), form)[None], form, vocoder)[0]
        found.append(float(log_spectral_distance(x, y, form).mean()))
    return sum(found) / len(found)
