"""Sounds: spectra with known answers, folders of every kind of file, and what is written for others to read."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.io import wavfile

from kuosan.core.random import Seeds
from kuosan.errors import UserError
from kuosan.modalities import AudioModality, Sound, load
from kuosan.modalities.audio_draw import GAP, SPECTRUM, WIDTH
from kuosan.modalities.audio_file import SoundHeader
from kuosan.modalities.audio_form import MOST_SAMPLES, AudioForm, choose_form, form_at, mel_of, seconds_of
from kuosan.modalities.audio_mel import SILENCE, frames_of, from_unit, levels, magnitudes, spectrum, to_unit
from kuosan.modalities.audio_phase import griffin_lim
from tests.modalities.sounds import RATE, save, tone, tones

FORM = replace(form_at(RATE, 1, 16), peak=0.0)


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("frequency", [250.0, 1000.0, 2500.0])
@pytest.mark.parametrize("gain", [1.0, 0.1])
def test_a_sine_has_its_level_in_its_band(frequency: float, gain: float) -> None:
    t = torch.arange(RATE) / RATE
    level = levels(gain * torch.sin(2 * math.pi * frequency * t)[None], FORM)[0, :, 30]
    centre = int(level.argmax()) + 1
    assert abs(centre - mel_of(frequency) / mel_of(RATE / 2) * (FORM.bands + 1)) < 1
    assert abs(float(level.max()) - 20 * math.log10(gain)) < 2
    assert float(level[abs(torch.arange(FORM.bands) + 1 - centre) > 8].max()) < 20 * math.log10(gain) - 40


def test_levels_and_states_are_one_another() -> None:
    level = torch.linspace(FORM.floor, FORM.peak, 50)
    assert torch.allclose(from_unit(to_unit(level, FORM), FORM), level, atol=1e-4)
    assert float(to_unit(torch.tensor(-500.0), FORM)) == pytest.approx(SILENCE)


def test_a_state_says_how_long_its_sound_is() -> None:
    modality = AudioModality(FORM)
    raws = [tone(300, n * FORM.hop / RATE) for n in (1, 5, 16)]
    silent = Sound(np.zeros((7 * FORM.hop, 1), np.float32), RATE)
    x = modality.encode([*raws, silent])
    assert frames_of(x) == [1, 5, 16, 7]
    assert frames_of(x + 0.08 * noise(*x.shape)) == [1, 5, 16, 7]  # as far as a model errs
    assert [len(raw.samples) for raw in modality.decode(x)] == [n * FORM.hop for n in (1, 5, 16, 7)]


def test_griffin_lim_finds_the_phases_of_a_sound() -> None:
    x = torch.from_numpy(tone(440, 0.5).samples.T[:, : 30 * FORM.hop].copy())
    m = spectrum(x, FORM.window, FORM.hop).abs()

    def error(rounds: int) -> float:
        from kuosan.modalities.audio_mel import waveform

        phase = griffin_lim(m, FORM.window, FORM.hop, rounds)
        back = spectrum(waveform(m * phase, FORM.window, FORM.hop), FORM.window, FORM.hop).abs()
        return float((back - m).norm() / m.norm())

    assert error(32) < 0.1 < 0.25 < error(0)
    with_neighbour = griffin_lim(torch.cat([m, m.flip(2)]), FORM.window, FORM.hop, 8)[:1]
    assert torch.allclose(with_neighbour, griffin_lim(m, FORM.window, FORM.hop, 8), atol=1e-3)


def test_magnitudes_have_the_levels_that_they_are_made_of() -> None:
    x = 0.1 * noise(1, 40 * FORM.hop)
    m = magnitudes(levels(x, FORM), replace(FORM, peak=20.0))
    real = spectrum(x, FORM.window, FORM.hop).abs()
    assert float((m.square().sum() / real.square().sum()).log10().abs()) < 0.05


def test_what_is_in_the_middle_stays_there() -> None:
    modality = AudioModality(replace(FORM, channels=2))
    mono, wide = tone(400, 0.25, channels=2), tone(400, 0.25, channels=2)
    wide.samples[:, 1] *= 0.25
    same, apart = modality.decode(modality.encode([mono, wide]))
    assert np.array_equal(same.samples[:, 0], same.samples[:, 1])
    left, right = apart.samples.T
    assert abs(np.corrcoef(left, right)[0, 1]) > 0.95
    assert 0.15 < np.linalg.norm(right) / np.linalg.norm(left) < 0.4


@pytest.mark.parametrize("suffix", [".wav", ".flac"])
def test_what_is_written_others_read(suffix: str, tmp_path: Path) -> None:
    modality, raw = AudioModality(FORM), tone(500, 0.3)
    path = modality.write(raw, tmp_path / f"a{suffix}")
    assert modality.read(path).same(raw)
    if suffix == ".wav":
        rate, samples = wavfile.read(path)
        assert rate == RATE and np.array_equal(samples / np.float32(32_768), raw.samples[:, 0])
    assert modality.write(raw, tmp_path / "bare").name == "bare.wav"
    with pytest.raises(UserError, match="name it .wav or .flac"):
        modality.write(raw, tmp_path / "a.mp3")


def test_files_of_every_depth_and_rate_are_read_as_one_sound(tmp_path: Path) -> None:
    raw, modality = tone(500, 0.25), AudioModality(FORM)
    close = {"PCM_16": 1e-6, "PCM_U8": 0.02, "PCM_24": 1e-6, "PCM_32": 1e-6, "FLOAT": 1e-6, "DOUBLE": 1e-6}
    states = []
    for kind, most in close.items():
        read = modality.read(save(tmp_path / f"{kind}.wav", raw, kind))
        assert np.abs(read.samples - raw.samples).max() < most
        states.append(modality.encode([read]))
    for name, subtype in (("a.ogg", "VORBIS"), ("a.mp3", "MPEG_LAYER_III"), ("a.flac", "PCM_24")):
        states.append(modality.encode([modality.read(save(tmp_path / name, raw, subtype))]))
    for rate in (16_000, 44_100, 96_000):
        states.append(modality.encode([modality.read(save(tmp_path / f"{rate}.wav", tone(500, 0.25, rate)))]))
    loud = states[0] > 0.2
    assert loud.float().mean() > 0.01
    for state in states[1:]:
        assert float((state - states[0])[loud].abs().mean()) < 0.05


def broken(folder: Path) -> dict[str, str]:
    """Files that hold no sound to learn from, and what is said of each."""
    whole = save(folder / "whole.wav", tone(300, 0.5)).read_bytes()
    (folder / "cut.wav").write_bytes(whole[: len(whole) // 2])
    flac = save(folder / "whole.flac", tone(310, 0.5)).read_bytes()
    (folder / "cut.flac").write_bytes(flac[: len(flac) // 2])
    (folder / "empty.wav").write_bytes(b"")
    (folder / "text.mp3").write_bytes(b"this is no sound")
    bad = tone(320, 0.25)
    bad.samples[7] = np.nan
    save(folder / "nan.wav", bad, "FLOAT")
    save(folder / "silent.wav", Sound(np.zeros((RATE, 1), np.float32), RATE))
    save(folder / "one.wav", Sound(np.full((1, 1), 0.5, np.float32), RATE))
    return {
        "cut.wav": "ends after", "cut.flac": "", "empty.wav": "empty", "text.mp3": "no sound", "nan.wav": "NaN",
        "silent.wav": "silent", "one.wav": "too short",
    }  # fmt: skip


def test_what_cannot_be_used_is_named(tmp_path: Path) -> None:
    said = broken(tmp_path)
    tones(tmp_path, 60)
    save(tmp_path / "eight.wav", tone(330), "PCM_U8")
    save(tmp_path / "fast.wav", tone(340, rate=96_000))
    found = load(tmp_path).survey
    told = dict([*found.skipped, *found.left_alone])
    assert all(reason in told[name] for name, reason in said.items())
    assert set(told) == set(said)
    assert found.totals["recordings"] == 60 + 2 + 2 and found.modality == "audio"


def test_too_many_damaged_files_stop_it(tmp_path: Path) -> None:
    broken(tmp_path)
    with pytest.raises(UserError, match="more than 10 %"):
        load(tmp_path)
    with pytest.raises(UserError, match="silent from beginning to end"):
        load(save(tmp_path / "alone" / "silent.wav", Sound(np.zeros((RATE, 1), np.float32), RATE)))


def test_the_form_is_what_most_files_have(tmp_path: Path) -> None:
    tones(tmp_path)
    save(tmp_path / "low" / "other.wav", tone(300, 0.2, 44_100, channels=2))
    data = load(tmp_path)
    form = data.modality.form
    assert (form.rate, form.channels, form.bands) == (RATE, 1, 64) and data.columns == {
        "class": ("high", "low")
    }
    assert form.seconds >= 0.25 > form.seconds - 4 * form.hop / RATE
    assert all("whole" not in name or "41 of 41" in why for name, _, why in data.survey.notes)
    other = load(tmp_path, options={"audio": {"rate": 4000, "length": "100ms"}}).modality.form
    assert other.rate == 4000 and other.frames == 4 * math.ceil(0.1 * 4000 / other.hop / 4)
    with pytest.raises(UserError, match="no length of sound"):
        load(tmp_path, options={"audio": {"length": "soon"}})


def test_stereo_is_kept_where_sides_differ(tmp_path: Path) -> None:
    for name, gain in (("same", 1.0), ("apart", 0.3)):
        for i in range(12):
            raw = tone(200 + 30 * i, channels=2)
            raw.samples[:, 1] *= gain
            save(tmp_path / name / f"{i}.wav", raw)
    assert load(tmp_path / "same").modality.form.channels == 1
    assert load(tmp_path / "apart").modality.form.channels == 2


def test_long_sounds_are_seen_whole_through_windows(tmp_path: Path) -> None:
    long = Sound(0.3 * noise(RATE * 3, 1).clamp(-1, 1).numpy(), RATE)
    for i in range(42):
        save(tmp_path / f"r{i}.wav", Sound(long.samples[i * 20 :].copy(), RATE))
    data = load(tmp_path, options={"audio": {"length": "500ms"}})
    splits = (data.train, data.val)
    files = [{name.split(":")[0] for name in split.names} for split in splits]
    assert not files[0] & files[1] and all(files)
    frames = data.modality.form.frames
    for split in splits:
        windows = split.x.levels
        assert bool((windows.lengths == frames).all())
        assert sum(map(len, windows.joined())) == sum(
            math.ceil(
                (3 * RATE - 20 * int(name.removeprefix("r").removesuffix(".wav"))) / data.modality.form.hop
            )
            for name in files[splits.index(split)]
        )
        seeds = Seeds.of(1, len(split))
        slid, still = split.x.levels.windows(frames, -1, seeds), split.x.levels.windows(frames, -1)
        assert slid.shape == still.shape and not torch.equal(slid, still) and bool((slid > -200).all())


def test_the_sides_of_one_long_sound_share_no_frame(tmp_path: Path) -> None:
    save(tmp_path / "long.wav", Sound(0.3 * noise(RATE * 30 + 777, 1).clamp(-1, 1).numpy(), RATE))
    data = load(tmp_path, options={"audio": {"length": "256ms"}})
    covered = []
    for split in (data.train, data.val):
        windows, seen = split.x.levels, set()
        for at in (windows.start, windows.low):
            for first, last in zip(at.tolist(), windows.stop.tolist(), strict=True):
                seen |= set(range(first, last))
        covered.append(seen)
    assert not covered[0] & covered[1] and all(covered)
    assert covered[0] | covered[1] == set(range(math.ceil((RATE * 30 + 777) / data.modality.form.hop)))


def test_names_say_what_they_say(tmp_path: Path) -> None:
    for digit in range(3):
        for speaker in ("ann", "bob"):
            for take in range(4):
                save(
                    tmp_path / f"{digit}_{speaker}_{take}.wav",
                    tone(200 + 100 * digit + 7 * take + len(speaker)),
                )
    columns = load(tmp_path).columns
    assert columns == {"class": ("0", "1", "2"), "part2": ("ann", "bob")}
    asked = load(tmp_path, options={"audio": {"names": "{digit}_{speaker}_{take}"}})
    assert set(asked.columns) == {"digit", "speaker"}
    assert ("column take", "not a condition", "it numbers the takes of one thing") in asked.survey.notes
    name, at = asked.train.names[0], asked.train.labels
    assert name.startswith(
        f"{asked.columns['digit'][at['digit'][0]]}_{asked.columns['speaker'][at['speaker'][0]]}_"
    )
    assert load(tmp_path, options={"audio": {"names": "none"}}).columns == {}
    with pytest.raises(UserError, match="No file's name fits"):
        load(tmp_path, options={"audio": {"names": "{a}+{b}"}})


def test_sounds_in_one_array_are_those_of_files(tmp_path: Path) -> None:
    raws = [tone(200 + 20 * i, 0.1 + 0.01 * (i % 4)) for i in range(40)]
    for i, raw in enumerate(raws):
        save(tmp_path / "files" / f"{i:02d}.wav", raw)
    joined = np.concatenate([raw.samples[:, 0] for raw in raws])
    np.savez(
        tmp_path / "packed.npz", audio=np.rint(joined * 32_768).astype(np.int16), sample_rate=np.int32(RATE),
        offsets=np.cumsum([0, *(len(raw.samples) for raw in raws)]), speaker=np.arange(40) % 2,
        speakers=np.array(["ann", "bob"]), labels=np.arange(40) % 4,
    )  # fmt: skip
    files, packed = load(tmp_path / "files"), load(tmp_path / "packed.npz")
    assert (
        packed.survey.fingerprint == files.survey.fingerprint and packed.modality.form == files.modality.form
    )
    assert packed.columns == {"class": ("0", "1", "2", "3"), "speaker": ("ann", "bob")}
    (tmp_path / "files" / "packed.npz").write_bytes((tmp_path / "packed.npz").read_bytes())
    both = load(tmp_path / "files")
    assert len(both.train) + len(both.val) == 40 and both.columns == packed.columns
    np.savez(tmp_path / "bad.npz", audio=joined, sample_rate=RATE, offsets=[0, 5, 3])
    with pytest.raises(UserError, match="do not divide"):
        load(tmp_path / "bad.npz")


def test_lengths_in_words() -> None:
    assert seconds_of("4s", 50) == 4 and seconds_of("250ms", 50) == 0.25 and seconds_of("100frames", 50) == 2
    assert seconds_of(25, 50) == 0.5
    for bad in ("", "-1s", "nan", "0frames", "4 bars"):
        with pytest.raises(UserError, match="no length of sound"):
            seconds_of(bad, 50)


@pytest.mark.parametrize("name", ["fsdd", "esc10", "sonicpi_samples"])
def test_real_folders(name: str, shared_data, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    folder = shared_data(name)
    if name == "esc10":  # a part of it
        for i, path in enumerate(sorted(folder.glob("*/*.ogg"))[::12]):
            (tmp_path / path.parent.name).mkdir(exist_ok=True)
            (tmp_path / path.parent.name / f"{i}.ogg").symlink_to(path)
        folder = tmp_path
    data = load(folder, options={"audio": {"names": "auto"}})
    assert data.columns and not data.survey.skipped and isinstance(data.modality.form, AudioForm)
    if name == "fsdd":
        assert set(data.columns) == {"digit", "speaker"}
        assert data.survey.duplicates["extra_copies"] >= 120


def test_what_is_too_loud_is_brought_down_whole() -> None:
    modality, raw = AudioModality(replace(FORM, peak=12.0)), tone(400, 0.2)
    loud, quiet = modality.decode(
        modality.encode([Sound(6 * raw.samples, RATE), Sound(0.6 * raw.samples, RATE)])
    )
    assert np.abs(quiet.samples).max() < 0.4 and np.abs(loud.samples).max() == pytest.approx(1.0)
    assert np.corrcoef(quiet.samples[:, 0], loud.samples[:, 0])[0, 1] > 0.9


def test_a_picture_shows_when_and_how_high_a_sound_is(tmp_path: Path) -> None:
    modality = AudioModality(FORM)
    high, low = tone(3000, 0.25), tone(250, 0.25)
    silent = np.zeros((2000, 1), np.float32)
    raws = [Sound(np.concatenate([silent, sound.samples]), RATE) for sound in (low, high)]
    bright = [
        np.asarray(modality.show([raw]).convert("L"), np.float64)[-SPECTRUM - GAP : -GAP] for raw in raws
    ]
    assert all(
        picture[:, -WIDTH // 2 :].mean() > 4 * picture[:, GAP : WIDTH // 3].mean() for picture in bright
    )
    rows = [int((picture[:, WIDTH * 2 // 3]).argmax()) for picture in bright]
    assert rows[0] > rows[1] + SPECTRUM // 3  # pitch upwards
    assert modality.write(raws[0], tmp_path / "a.png").stat().st_size > 0


@pytest.mark.parametrize(
    ("rate", "kept"), [(8_000, 8_000), (44_100, 22_050), (48_000, 24_000), (96_000, 24_000)]
)
def test_long_recordings_keep_a_rate_that_is_worth_hearing(rate: int, kept: int) -> None:
    form, choices = choose_form([SoundHeader(rate, 1, rate * 200, "PCM_16")] * 3, False)
    assert form.rate == kept and form.frames * form.hop <= MOST_SAMPLES and form.seconds >= 5
    assert any(what == "length" and "through windows" in why for what, _, why in choices)
    asked, _ = choose_form([SoundHeader(rate, 1, rate * 200, "PCM_16")] * 3, False, "2s", rate)
    assert asked.rate == rate and asked.seconds == pytest.approx(2, abs=4 * asked.hop / rate)


def test_lengths_are_in_seconds_and_a_longer_form_writes_longer_sounds() -> None:
    modality = AudioModality(FORM)
    rate = FORM.frame_rate
    assert modality.count("time", "0.5s") == round(0.5 * rate) == modality.count("time", "500ms")
    assert modality.places("time", "0-0.1s") == range(round(0.1 * rate))
    longer = modality.sized((FORM.bands, 2 * FORM.frames))
    assert longer.shape == (FORM.channels, FORM.bands, 2 * FORM.frames)
    (sound,) = longer.decode(longer.encode([tone(400, 1.5 * FORM.seconds)]))
    assert abs(len(sound.samples) / RATE - 1.5 * FORM.seconds) < 2 * FORM.hop / RATE
    with pytest.raises(UserError, match="bands"):
        modality.sized((FORM.bands // 2, FORM.frames))
