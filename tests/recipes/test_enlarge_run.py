"""Runs that enlarge pictures: what stands beside crops, exact averages at any size, what is measured."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import kuosan
from kuosan.core.random import Seeds
from kuosan.core.shapes import BESIDE
from kuosan.errors import UserError
from kuosan.guidance.averages import averaged
from kuosan.modalities.beside import Enlarging, beside_from, blurred, compressed
from kuosan.recipes import judged
from kuosan.recipes.evaluate import data_of
from kuosan.recipes.opening import reopen
from tests.recipes import small

STEPS = {"steps": 2, "solver": "dpm++2m"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Colour gratings of several sizes."""
    out = tmp_path_factory.mktemp("gratings")
    rng = np.random.Generator(np.random.Philox(key=3))
    for i in range(12):
        h, w = (int(n) for n in rng.integers(10, 20, 2))
        y, x = np.mgrid[:h, :w]
        wave = np.stack([np.sin(x / rng.uniform(1, 3)) * np.cos(y / rng.uniform(1, 3)) for _ in range(3)], -1)
        Image.fromarray((127 + 120 * wave).astype(np.uint8)).save(out / f"{i:02d}.png")
    return out


@pytest.fixture(scope="module")
def enlarger(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> kuosan.Run:
    out = tmp_path_factory.mktemp("enlarger") / "run"
    session = small.session(folder, out, data__enlarge=2, data__size=8, budget="3steps")
    for _ in session.steps():
        pass
    session.write_weights("now")
    return kuosan.load(out)


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> kuosan.Run:
    """One of grey pictures that was never told of any."""
    out = tmp_path_factory.mktemp("plain") / "run"
    session = small.session(data, out, budget="1steps")
    for _ in session.steps():
        pass
    session.write_weights("now")
    return kuosan.load(out)


def levels(x: torch.Tensor) -> torch.Tensor:
    return ((x.double() + 1) * 127.5).round()


def test_a_training_item_is_a_crop_at_its_own_size_and_beside_it_stands_its_average(
    enlarger: kuosan.Run, folder: Path
) -> None:
    data = data_of(enlarger)
    one = data.train
    x, cond = one.batch(torch.tensor([0, 0]), Seeds.of(0, 2))
    whole = torch.from_numpy(np.asarray(Image.open(folder / one.names[0])).copy()).permute(2, 0, 1)
    places = [
        (i, j) for i in range(whole.shape[1] - 7) for j in range(whole.shape[2] - 7)
        if torch.equal(levels(x[0]).to(torch.uint8), whole[:, i : i + 8, j : j + 8])
    ]  # fmt: skip
    assert places and not torch.equal(x[0], x[1])
    plain, there = one.batch(torch.tensor([0]))
    beside = there[BESIDE]
    expected = torch.nn.functional.interpolate(averaged(plain, 2), scale_factor=2.0, mode="bicubic").clamp(
        -1, 1
    )
    assert torch.allclose(beside[:, :3], expected, atol=0.02) and bool((beside[:, 3] == 1).all())
    assert cond[BESIDE].shape == (2, 4, 8, 8) == (2, enlarger.facts.network["beside"], 8, 8)


def test_noise_beside_is_told_and_the_rest_is_spoilt_only_where_asked() -> None:
    x = Seeds.of(0, 64).uniform(torch.empty(64, 3, 8, 8)) * 2 - 1
    plane, seeds = x[:, :0], Seeds.of(1, 64)
    clean, spoilt = Enlarging(2, 3), Enlarging(2, 3, blur=1.0, jpeg=30)
    seen = clean.of(x, plane, seeds)
    alpha = seen[:, 3:, :1, :1]
    noise = (seen[:, :3] - alpha * clean.raised(averaged(x, 2))).flatten(1).square().mean(1)
    assert torch.allclose(noise, 1 - alpha.flatten().square(), rtol=0.5, atol=1e-6)
    assert 0.3 < float((alpha == 1).float().mean()) < 0.7 and float(alpha.min()) > 0.7
    same = torch.isclose(spoilt.of(x, plane, seeds), seen, atol=1e-4).flatten(1).all(1)
    assert 0.05 < float(same.float().mean()) < 0.6
    assert torch.equal(clean.of(x, plane, None), clean.shown(clean.small(x, plane)))
    assert beside_from(spoilt.spec()) == spoilt and beside_from(None) is None


def test_blur_is_a_gaussian_and_compression_is_a_files() -> None:
    x = torch.zeros(2, 1, 41, 41)
    x[:, :, 20, 20] = 1
    y = blurred(x, torch.tensor([2.0, 0.0], dtype=torch.float64))
    place = torch.arange(41.0) - 20
    assert abs(float((y[0, 0].sum(0) * place.square()).sum()) - 4) < 0.1, "its variance"
    assert abs(float(y[0].sum()) - 1) < 1e-5 and torch.allclose(y[1], x[1], atol=1e-6)
    flat = torch.full((3, 16, 16), 0.25)
    assert float((compressed(flat, 90) - flat).abs().max()) < 0.02
    assert torch.equal(compressed(flat[:2], 10), flat[:2]), "no JPEG holds two channels"


@pytest.mark.parametrize("size", [(1, 1), (3, 9), (11, 6)])
def test_any_picture_is_enlarged_and_averages_back_to_itself(
    enlarger: kuosan.Run, run: kuosan.Run, size: tuple[int, int], tmp_path: Path
) -> None:
    rng = np.random.Generator(np.random.Philox(key=1))
    pixels = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "small.png")
    steering = enlarger.steer(enlarge=tmp_path / "small.png")
    made = enlarger.sample(2, steering=steering, **STEPS)
    assert made.x.shape == (2, 3, 2 * size[0], 2 * size[1])
    true = torch.from_numpy(pixels).permute(2, 0, 1).double()
    assert torch.equal(averaged(levels(made.x), 2), true.expand(2, -1, -1, -1))
    loose = enlarger.sample(1, steering=enlarger.steer(enlarge=tmp_path / "small.png", loose=True), **STEPS)
    assert not torch.equal(averaged(levels(loose.x), 2)[0], true)
    # A model that was never trained for it, of grey pictures and another factor:
    grey = run.sample(1, steering=run.steer(enlarge=tmp_path / "small.png", factor=4), **STEPS)
    want = run.modality.plain(size).encode([run.modality.read(tmp_path / "small.png")])  # type: ignore[attr-defined]
    assert torch.equal(averaged(levels(grey.x), 4), levels(want))
    assert grey.cond["class"].tolist() == [run.facts.null["class"]], "nobody knows its class"


def test_the_network_looks_at_what_stands_beside(enlarger: kuosan.Run) -> None:
    dark, light = (torch.full((1, 3, 4, 4), v) for v in (-0.8, 0.8))
    a, b = (
        enlarger.sample(1, steering=enlarger.steer(enlarge=y, loose=True), **STEPS).x for y in (dark, light)
    )
    assert not torch.allclose(a, b, atol=1e-3)


def test_samples_nobody_asked_for_more_of_do_not_depend_on_their_neighbours(enlarger: kuosan.Run) -> None:
    many = enlarger.sample(4, **STEPS)
    assert torch.allclose(enlarger.sample(1, first=2, **STEPS).x, many.x[2:3], atol=1e-5)
    assert BESIDE not in many.cond


def test_wishes_that_cannot_be_say_why(enlarger: kuosan.Run, run: kuosan.Run, tmp_path: Path) -> None:
    y = torch.zeros(1, 3, 4, 4)
    for of, words, wishes in (
        (enlarger, "it can be 2, for which", {"enlarge": y, "factor": 3}),
        (run, "was not trained with", {"enlarge": y[:, :1], "loose": True}),
        (run, "add --enlarge", {"factor": 3}),
        (run, "no picture", {"enlarge": tmp_path / "gone.png"}),
        (enlarger, "need something beside them", {"size": "16x16"}),
    ):
        with pytest.raises(UserError, match=words):
            of.steer(**wishes)


def test_a_run_goes_on_as_if_it_had_not_stopped(folder: Path, tmp_path: Path) -> None:
    def weights(out: Path, stop: int) -> dict[str, torch.Tensor]:
        session = small.session(
            folder, out, data__enlarge=2, data__size=8, budget="4steps", training__save_seconds=0
        )
        for event in session.steps():
            if event.step == stop:
                break
        if stop:
            session = reopen(out)
            list(session.steps())
        return dict(session.training.average.state_dict())

    straight, broken = weights(tmp_path / "a", 0), weights(tmp_path / "b", 2)
    assert all(torch.equal(straight[name], broken[name]) for name in straight)


def test_held_out_pictures_are_made_again_and_measured_beside_bicubic(enlarger: kuosan.Run) -> None:
    data = data_of(enlarger)
    one = judged.again(enlarger, data.train, 6)
    assert one.small is not None and torch.equal(
        levels(averaged(levels(one.made) / 127.5 - 1, 2)), levels(one.small)
    )
    section = judged.beside_section(enlarger, data.train)
    assert section is not None and section.id == "enlarged" and len(section.figures) == 1
