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
from kuosan.modalities import load
from kuosan.recipes.coding import Encoded
from kuosan.recipes.opening import reopen
from kuosan.recipes.wishes import steering
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


@pytest.fixture(scope="module")
def latent(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> kuosan.Run:
    """Of latents, two frames in each; to be read only."""
    return kuosan.train(
        folder, out=tmp_path_factory.mktemp("runs") / "latent", budget="8steps", codec="kl_vae", codec__factor=2,
        codec__steps=6, codec__batch=4, codec__base=4, codec__latent=3, network__dim=32, network__depth=1,
        training__batch=8, training__validations=2, sampling__steps=2,
    )  # fmt: skip


def test_clips_become_latents_and_clips_again(latent: kuosan.Run, tmp_path: Path) -> None:
    assert latent.shape == (3, 6, 12, 12) and latent.latent_shape == (3, 4, 6, 6)
    part = latent.facts.recipe.codec
    assert (part.kind, part.factor, part.frames, part.latent) == ("kl_vae", 2, 2, 3)
    roof = json.loads((latent.path / "evaluation.json").read_text())["codec"]
    assert roof["codec_psnr"]["value"] > 10 and "clips" in roof["codec_psnr"]["note"]
    assert (
        "not of clips (3×6×12×12) but of their latents (3×4×6×6)" in (latent.path / "report.html").read_text()
    )
    assert latent.sample(2).z.shape == (2, 3, 4, 6, 6)  # type: ignore[union-attr]
    longer = tmp_path / "longer"
    assert main(["sample", str(latent.path), "-n", "2", "--length", "11frames", "--out", str(longer)]) == 0
    assert safetensors.torch.load_file(longer / "samples.safetensors")["x"].shape == (2, 3, 11, 12, 12)


def test_a_first_frame_is_given_to_the_walk_of_latents_too(
    latent: kuosan.Run, folder: Path, tmp_path: Path
) -> None:
    path = sorted((folder / "a").iterdir())[0]
    how = steering(latent, given=path, keep=["time:0-1frames"])
    assert how is not None
    inside = how.of(latent, range(1)).given
    assert inside is not None and inside.mask[0, :, :, 0, 0].any(0).tolist() == [True, False, False, False]
    state = latent.modality.encode([latent.modality.read(path)])
    samples = latent.sample(2, steering=how)
    assert torch.equal(samples.x[:, :, 0], state[:, :, 0].expand(2, -1, -1, -1))
    assert not torch.equal(samples.x[0, :, 1:], samples.x[1, :, 1:])


def test_windows_slide_in_latents_too(folder: Path) -> None:
    whole, windows = (load(folder, options={"video": {"length": n}}) for n in (6, 4))
    assert Encoded(whole.train, trained=True).views == 1
    assert Encoded(windows.train, trained=True).views > 1 == Encoded(windows.val, trained=False).views


def test_a_codec_of_pictures_is_refused(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["--set", "codec=stock", "--set", f"codec.path={tmp_path}", "--out", str(tmp_path / "x")]
    assert main(["train", str(folder), *asked]) == 2
    assert "codec=kl_vae" in capsys.readouterr().err
