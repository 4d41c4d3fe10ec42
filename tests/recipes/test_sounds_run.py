"""Runs over sounds: from a folder to files that play."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import soundfile
import torch

import kuosan
from kuosan.errors import UserError
from kuosan.modalities import AudioModality
from kuosan.recipes import measures
from kuosan.recipes.ceiling import ceiling
from kuosan.recipes.cite import reasons_of
from kuosan.recipes.evaluate import data_of
from kuosan.recipes.opening import prepare, reopen
from kuosan.recipes.schema import Recipe
from tests.modalities.sounds import tone, tones

SMALL = {
    "network__dim": 32, "network__depth": 1, "training__batch": 16, "sampling__steps": 2, "data__length": "120ms",
    "data__vocoder": 1,
}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def _few_samples() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("kuosan.recipes.finish.MOST", 32)
        patch.setattr("kuosan.recipes.finish.FEWEST", 32)
        patch.setattr(AudioModality, "most_decoded", 24)
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tones(tmp_path_factory.mktemp("sounds") / "tones", 45, seconds=0.12)


@pytest.fixture(scope="module")
def run(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> kuosan.Run:
    """To be read only."""
    return kuosan.train(folder, out=tmp_path_factory.mktemp("runs") / "sounds", budget="4steps", **SMALL)


def test_a_folder_becomes_a_run_that_plays(run: kuosan.Run) -> None:
    assert run.modality.name == "audio" and run.facts.recipe.data.rate == 8000
    summary = json.loads((run.path / "evaluation.json").read_text())
    for name in (
        "fd_mel",
        "loudness_overlap",
        "silence_overlap",
        "brightness_overlap",
        "seconds_overlap",
        "fd_raw",
    ):
        assert summary["metrics"][name]["n"] > 0 and summary["metrics"][name]["floor"] is not None
    for name in ("codec_log_spectral_distance", "codec_si_sdr"):
        assert summary["codec"]["metrics" if "metrics" in summary["codec"] else name]
    report = (run.path / "report.html").read_text(encoding="utf-8")
    assert report.count("data:audio/wav;base64,") >= 3 and "no phases" in report and "tones" in report
    assert {"griffin1984", "perraudin2013", "davis1980"} <= {key for _, key in reasons_of(run)}
    assert any(name == "vocoder" for name, _, _ in run.facts.choices)


def test_samples_are_files_as_long_as_they_sound(run: kuosan.Run, tmp_path: Path) -> None:
    samples = run.sample(3, where={"class": "low"})
    raws = samples.raws()
    for raw, path in zip(raws, run.write(samples, tmp_path), strict=True):
        about = soundfile.info(str(path))
        assert (about.samplerate, about.channels, about.subtype) == (8000, 1, "PCM_16")
        assert about.frames == len(raw.samples) <= run.shape[-1] * run.modality.form.hop  # type: ignore[attr-defined]
    assert (tmp_path / "overview.png").is_file()


def test_the_ceiling_is_that_of_real_sounds(run: kuosan.Run) -> None:
    roof = ceiling(run, data_of(run))
    assert (
        roof is not None
        and roof.words
        and set(roof.metrics) >= {"codec_log_spectral_distance", "codec_si_sdr"}
    )
    assert 0 < roof.metrics["codec_log_spectral_distance"].value < 20 and len(roof.x) == len(roof.y)


def test_a_trained_vocoder_is_kept_beside_the_recipe(folder: Path, tmp_path: Path) -> None:
    words = {name.replace("__", "."): value for name, value in SMALL.items()} | {"data.vocoder": 25}
    recipe = Recipe(budget="2steps").updated(words)
    session = prepare(folder, out=tmp_path / "run", recipe=recipe, asked={})
    assert session.data.modality.vocoder is not None and session.data.train.modality is session.data.modality
    again = reopen(tmp_path / "run")
    assert again.run.modality.files() == session.data.modality.files()
    x = session.data.modality.encode([tone(400, 0.1)])
    assert again.run.modality.decode(x)[0].same(session.data.modality.decode(x)[0])
    (tmp_path / "run" / "vocoder.safetensors").unlink()
    with pytest.raises(UserError, match="vocoder.safetensors"):
        kuosan.load(tmp_path / "run").modality.decode(x)


def test_griffin_lim_can_be_asked_for(folder: Path, tmp_path: Path) -> None:
    words = {name.replace("__", "."): value for name, value in SMALL.items()} | {"data.vocoder": 0}
    session = prepare(folder, out=tmp_path / "run", recipe=Recipe(budget="2steps").updated(words), asked={})
    assert session.run.modality.files() == {} and ("vocoder", "Griffin-Lim", "asked for") in [
        tuple(choice) for choice in session.run.facts.choices
    ]


def test_places_in_a_state(run: kuosan.Run) -> None:
    modality = run.modality
    assert isinstance(modality, AudioModality)
    form = modality.form
    assert modality.places("time", "0-48ms") == range(round(0.048 * form.frame_rate))
    assert modality.places("time", "0-100%") == range(form.frames)
    low, high = modality.places("frequency", "0-1000hz"), modality.places("frequency", "1-4khz")
    assert low.start == 0 and high.stop == form.bands and low.stop - 1 == high.start == form.band_of(1000)
    with pytest.raises(UserError, match="no places along time"):
        modality.places("time", "2-3s")
    assert measures.MEASURES["audio"] is not None and torch.equal(
        modality.encode([]), torch.empty(0, *modality.shape)
    )
