"""The vocoder: it begins as arithmetic, learns what bands blur, and is kept where it is better."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from kuosan.codecs.sound_trip import log_spectral_distance, multi_resolution, si_sdr
from kuosan.codecs.vocoding import train_vocoder
from kuosan.errors import UserError
from kuosan.modalities import AudioModality, load, modality_from_spec
from kuosan.modalities.audio import FILE, new_vocoder
from kuosan.modalities.audio_form import form_at
from kuosan.modalities.audio_mel import from_unit, magnitudes
from kuosan.modalities.audio_vocoder import spectra
from tests.modalities.sounds import RATE, tone, tones

FORM = form_at(RATE, 1, 16)


def untrained() -> AudioModality:
    return AudioModality(FORM, new_vocoder(FORM, torch.Generator().manual_seed(0), width=16, depth=1).eval())


def test_an_untrained_vocoder_has_the_magnitudes_of_the_bands() -> None:
    modality = untrained()
    x = modality.encode([tone(300), tone(700)])[:, 0]
    assert modality.vocoder is not None
    made = spectra(modality.vocoder, x, FORM).abs()
    assert torch.allclose(made, magnitudes(from_unit(x, FORM), FORM), rtol=1e-4, atol=1e-5)


def test_a_sound_does_not_depend_on_its_neighbours() -> None:
    modality = untrained()
    x = modality.encode([tone(300), tone(700, 0.1)])
    together, alone = modality.decode(x), modality.decode(x[1:])
    assert np.allclose(together[1].samples, alone[0].samples, atol=1e-5)


def test_the_vocoder_stands_beside_the_recipe() -> None:
    modality = untrained()
    spec, files = modality.spec(), modality.files()
    again = modality_from_spec(spec, files.__getitem__)
    raws = [tone(500)]
    assert again.decode(again.encode(raws))[0].same(modality.decode(modality.encode(raws))[0])
    with pytest.raises(UserError, match=FILE):
        modality_from_spec(spec)
    with pytest.raises(UserError, match="damaged"):
        modality_from_spec(spec, lambda name: b"x" * 40)


def test_distances_have_known_values() -> None:
    x = torch.from_numpy(tone(400, 0.5).samples.T[:, : 30 * FORM.hop].copy())
    form = replace(FORM, peak=-6.0)
    assert float(log_spectral_distance(x, x, form)) == 0 and float(multi_resolution(x, x, form)) < 1e-2
    loud = torch.sign(torch.sin(torch.arange(4096.0) ** 1.3))[
        None
    ]  # loud at all frequencies: 6 dB apart everywhere
    assert float(log_spectral_distance(loud, loud / 2, form)) == pytest.approx(6.02, abs=0.05)
    wave = torch.sin(torch.arange(4000) * 0.3)[None].double()
    other = torch.cos(torch.arange(4000) * 0.3)[None].double()
    assert float(si_sdr(wave, 3 * wave + 0.3 * other)) == pytest.approx(20.0, abs=0.1)
    assert float(si_sdr(wave, other)) < -20


def test_training_makes_round_trips_nearer(tmp_path: Path) -> None:
    data = load(tones(tmp_path, 24))
    after, found = train_vocoder(data.modality, data.train.x, data.val.x, steps=25)
    assert found.steps == 25 and found.held_out and found.trained < found.plain - 0.1
    assert after.vocoder is not None and data.modality.vocoder is None


def test_training_is_repeatable_and_kept_only_where_it_pays(tmp_path: Path) -> None:
    data = load(tones(tmp_path, 24))
    (one, first), (_, second) = (
        train_vocoder(data.modality, data.train.x, data.val.x, steps=2) for _ in range(2)
    )
    assert first.trained == second.trained and not first.better and one.vocoder is None
