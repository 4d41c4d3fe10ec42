"""Runs over clips: from a folder of films to films."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image

import kuosan
from kuosan.cli import main
from kuosan.recipes.opening import reopen
from tests.modalities.video import ball, save


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("video") / "discs"
    for i in range(64):
        clip = ball(i, 6, 12)
        frames = clip.frames if i % 2 else clip.frames[:, ::-1, ::-1]
        save(
            type(clip)(np.ascontiguousarray(frames), clip.mode, clip.rate),
            out / "ab"[i % 2] / f"{i:02d}.apng",
        )
    return out


@pytest.fixture(scope="session")
def run(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> kuosan.Run:
    """To be read only."""
    return kuosan.train(
        folder, out=tmp_path_factory.mktemp("runs") / "discs", budget="12steps", network__dim=32, network__depth=1,
        network__patch=[2, 4, 4], training__batch=8, training__validations=2, sampling__steps=2,
    )  # fmt: skip


def test_a_folder_becomes_a_run_with_all_that_belongs_to_one(run: kuosan.Run, folder: Path) -> None:
    assert run.modality.shape == (3, 6, 12, 12) and run.facts.columns == {"class": ["a", "b"]}
    assert run.facts.recipe.data.rate == 8 and run.facts.recipe.data.length == 6
    found = json.loads((run.path / "summary.json").read_text())["metrics"]
    for name in ("fd_movement", "shuffled_movement", "fd_frames", "motion_distance", "flicker_distance"):
        assert found[name]["n"] > 0 and found[name]["stderr"] is not None and found[name]["floor"] is not None
    # samples of a network that learned nothing move as no clip does, and shuffled real ones are in between
    assert (
        found["fd_movement"]["value"]
        > found["shuffled_movement"]["value"]
        > found["shuffled_movement"]["floor"]
    )
    report = (run.path / "report.html").read_text(encoding="utf-8")
    assert report.count("data:image/webp;base64,") >= 8 and "Control: frames shuffled" in report
    assert "clips of 6 frames of 12×12 pixels" in report
    assert reopen(run.path).data.train.names


def test_samples_are_films_and_what_else_is_asked_for(run: kuosan.Run, tmp_path: Path) -> None:
    asked = ["-n", "3", "--where", "class=a", "--format", "webp,frames", "--out", str(tmp_path / "x")]
    assert main(["sample", str(run.path), *asked]) == 0
    x = safetensors.torch.load_file(tmp_path / "x" / "samples.safetensors")["x"]
    assert x.shape == (3, 3, 6, 12, 12)
    for i, clip in enumerate(run.modality.decode(x)):
        film = run.modality.read(tmp_path / "x" / f"{i:05d}.mp4")
        assert len(film) == 6 and film.rate == 8 and film.frames.shape == clip.frames.shape
        assert run.modality.read(tmp_path / "x" / f"{i:05d}.webp").same(clip)
        assert run.modality.read(tmp_path / "x" / f"{i:05d}").same(clip)
    with Image.open(tmp_path / "x" / "overview.png") as sheet:
        assert sheet.width > sheet.height


def test_formats_that_there_are_not_are_told(
    run: kuosan.Run, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["sample", str(run.path), "--format", "avi", "--out", str(tmp_path / "x")]) == 2
    assert "mp4, webp, gif, apng, frames" in capsys.readouterr().err


def test_samples_do_not_depend_on_their_neighbours(run: kuosan.Run) -> None:
    every = run.sample(4, steps=2).x
    assert torch.allclose(run.sample(2, steps=2).x, every[:2], atol=1e-5)
