"""Sounds in pieces: the same frames and the same hash however a stream is cut, and nothing left of what failed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from kuosan.modalities import audio_file, audio_stream, load
from kuosan.modalities.audio_file import Samples, blocks_of, converted, read_sound
from kuosan.modalities.audio_form import form_at
from kuosan.modalities.audio_stream import Heard, Stream, framed
from kuosan.modalities.base import Unreadable
from tests.modalities.sounds import RATE, save, tone


def waves(n: int, channels: int) -> Samples:
    rng = np.random.Generator(np.random.Philox(key=n))
    return (0.3 * rng.standard_normal((n, channels))).astype(np.float32)


def cut(x: Samples, size: int) -> Iterator[Samples]:
    return (x[k : k + size] for k in range(0, len(x), size))


@pytest.mark.parametrize(
    ("rate", "channels", "wanted"), [(RATE, 1, 1), (2 * RATE, 2, 1), (11_025, 1, 2), (RATE, 2, 2)]
)
@pytest.mark.parametrize("n", [1, 700, 20_000])
def test_the_same_frames_come_of_any_blocks(
    rate: int, channels: int, wanted: int, n: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    form, x = form_at(RATE, wanted, 16), waves(n, channels)
    whole = [np.concatenate(part) for part in zip(*framed([x], rate, form), strict=True)]
    monkeypatch.setattr(audio_stream, "BLOCK", 8)
    pieces = [np.concatenate(part) for part in zip(*framed(cut(x, 999), rate, form), strict=True)]
    assert pieces[0].shape == whole[0].shape and np.array_equal(pieces[1], whole[1])
    # Spectra of another number of frames at a time differ by rounding alone.
    assert np.abs(pieces[0].astype(float) - whole[0]).max() <= 0.07
    fitted = converted(audio_file.Sound(x, rate), RATE, wanted).samples
    joined = whole[1].transpose(1, 0, 2).reshape(wanted, -1)[:, : len(fitted)]
    assert np.array_equal(joined, audio_file.quantised(fitted.T))


@pytest.mark.parametrize("promised", [5_000, 4_321])
def test_a_stream_is_hashed_as_a_whole_also_where_its_header_erred(promised: int) -> None:
    x = waves(5_000, 2)
    heard = Heard(Stream(lambda: cut(x, 640), RATE, 2, promised))
    assert np.array_equal(np.concatenate(list(heard.blocks())), x)
    assert heard.digest() == hashlib.sha256(f"{RATE} {x.shape}".encode() + x.tobytes()).digest()
    assert heard.peak == pytest.approx(float(np.abs(x).max())) and heard.length == len(x)


def test_a_file_is_read_in_blocks_and_its_end_is_missed(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    soundfile.write(path, waves(9_000, 1), RATE)
    blocks = list(blocks_of(path, 4_000))
    assert [len(b) for b in blocks] == [4_000, 4_000, 1_000]
    assert np.array_equal(np.concatenate(blocks), read_sound(path).samples)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(Unreadable):
        list(blocks_of(path, 4_000))


def test_a_file_that_fails_on_the_way_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tones, and among them one with NaN at its end and silence: as many frames as the tones have."""
    monkeypatch.setattr(audio_file, "BLOCK", 2_000)
    monkeypatch.setattr(audio_stream, "BLOCK", 4)
    names = ["a", *(f"d{k}" for k in range(11))]
    for k, name in enumerate(names):
        save(tmp_path / f"{name}.wav", tone(300 + 50 * k, 1.0))
    broken = tone(500, 1.0).samples.copy()
    broken[-1] = np.nan
    soundfile.write(tmp_path / "b.wav", broken, RATE, subtype="FLOAT")
    soundfile.write(tmp_path / "c.wav", np.zeros(RATE), RATE)
    data = load(tmp_path)
    storage = data.train.x
    assert [name for name, _ in data.survey.skipped] == ["b.wav"]
    assert len(storage.samples) == sum(-(-RATE // data.modality.form.hop) for _ in names)  # type: ignore[attr-defined]
