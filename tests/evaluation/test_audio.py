"""What is measured of sounds: known answers, and that each fault is noticed by its own number."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kuosan.evaluation.audio import TRAITS, evaluate_sounds, mel_statistics, traits
from kuosan.evaluation.found import Found
from kuosan.modalities import Sound
from tests.modalities.sounds import RATE, tone


def sine(frequency: float, gain: float, seconds: float = 1.0, silent: float = 0.0, rate: int = RATE) -> Sound:
    t = np.arange(round(seconds * rate)) / rate
    wave = gain * np.sin(2 * np.pi * frequency * t) * (t >= silent)
    return Sound(wave[:, None].astype(np.float32), rate)


@pytest.mark.parametrize("rate", [8_000, 22_050, 44_100])
@pytest.mark.parametrize("frequency", [300.0, 1500.0])
def test_a_sine_has_known_traits(rate: int, frequency: float) -> None:
    found = traits([sine(frequency, gain, 2.0, silent=0.5, rate=rate) for gain in (1.0, 0.1)])
    # a full-scale sine has a mean square of one half: -3.01 dB
    assert found["loudness"].tolist() == pytest.approx([-3.01, -23.01], abs=0.3)
    assert found["silence"].tolist() == pytest.approx([0.25, 0.25], abs=0.02)
    assert found["brightness"].tolist() == pytest.approx([frequency] * 2, rel=0.03)
    assert found["seconds"].tolist() == [2.0, 2.0]


def test_two_tones_are_as_bright_as_their_mean_by_power() -> None:
    low, high = sine(500, 0.4), sine(2500, 0.2)
    both = Sound(low.samples + high.samples, RATE)
    assert float(traits([both])["brightness"][0]) == pytest.approx((4 * 500 + 2500) / 5, rel=0.02)


def test_traits_do_not_depend_on_neighbours_and_survive_silence() -> None:
    sounds = [tone(300), tone(900, 0.1), Sound(np.zeros((100, 1), np.float32), RATE)]
    together = traits(sounds)
    for i, sound in enumerate(sounds):
        alone = traits([sound])
        assert all(float(alone[t.name][0]) == float(together[t.name][i]) for t in TRAITS)
        assert torch.equal(mel_statistics(sounds)[i], mel_statistics([sound])[0])
    assert all(bool(torch.isfinite(values).all()) for values in together.values())


def test_statistics_of_a_louder_sound_are_moved_by_its_decibels() -> None:
    quiet, loud = mel_statistics([sine(800, 0.05), sine(800, 0.5)])
    heard = loud[:20] > -0.5  # 20 dB each
    assert bool(heard.any())
    assert torch.allclose((loud - quiet)[:20][heard], torch.tensor(1.0), atol=0.005)
    assert torch.allclose(loud[20:][heard], quiet[20:][heard], atol=0.005)


FAULTS = {
    "loudness_overlap": lambda i: tone(200 * 1.03**i, 0.2 + 0.005 * i, gain=0.02),
    "brightness_overlap": lambda i: tone(1000 * 1.005**i, 0.2 + 0.005 * i),
    "seconds_overlap": lambda i: tone(200 * 1.03**i, 0.7 + 0.005 * i),
}


@pytest.mark.parametrize("fault", ["", *FAULTS])
def test_each_number_notices_its_fault(fault: str) -> None:
    def real(i: int) -> Sound:
        return tone(200 * 1.03**i, 0.2 + 0.005 * i)

    makes = FAULTS.get(fault, real)
    found = Found(torch.Generator().manual_seed(0))
    sets = [[make(3 * i + k) for i in range(14)] for k, make in enumerate((makes, real, real))]
    evaluate_sounds(found, *sets, "")
    overlaps = {name: m for name, m in found.metrics.items() if name.endswith("_overlap")}
    assert set(overlaps) == {f"{trait.name}_overlap" for trait in TRAITS} and "fd_mel" in found.metrics
    for name, m in overlaps.items():
        sigmas = m.sigmas
        assert m.n == 14 and m.stderr is not None and m.floor is not None
        if name == fault:
            assert m.value < 0.5 * m.floor
        elif not fault:
            assert sigmas is None or sigmas < 3
    worse = found.metrics["kd_mel"].sigmas
    assert worse is not None and (worse > 3 or fault not in ("loudness_overlap", "brightness_overlap"))
