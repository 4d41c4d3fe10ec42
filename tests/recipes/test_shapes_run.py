"""Pictures of several shapes: batches of one, all items as often, resumes to the bit, samples of any near shape."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import kuosan
from kuosan.core.grids import Karras, LogSNR, resized
from kuosan.core.random import Seeds
from kuosan.core.schedules import EDM, Cosine, Rectified, Schedule, VPLinear
from kuosan.errors import UserError
from kuosan.modalities import ImageModality, load
from kuosan.modalities.buckets import candidates, choose_shapes, kept
from kuosan.modalities.pixels import Header
from kuosan.networks import build_network
from kuosan.networks.transformer import positions
from kuosan.recipes.evaluate import data_of
from kuosan.recipes.opening import reopen
from kuosan.recipes.report_shapes import shapes_section
from kuosan.training.data import ROUND, shelf_index
from tests.recipes import small

STEPS = {"steps": 2, "solver": "dpm++2m"}
SIZES = ((16, 16),) * 8 + ((8, 32),) * 20 + ((32, 8),) * 12


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ramps: across in wide pictures, down in tall ones."""
    out = tmp_path_factory.mktemp("shapes")
    rng = np.random.Generator(np.random.Philox(key=3))
    for i, (h, w) in enumerate(SIZES):
        y, x = np.mgrid[:h, :w]
        ramp = x / w if w > h else y / h if h > w else np.full((h, w), 0.5)
        Image.fromarray((200 * ramp + 50 * rng.random()).astype(np.uint8)).save(out / f"{i:02d}.png")
    return out


@pytest.fixture(scope="module")
def run(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> kuosan.Run:
    out = tmp_path_factory.mktemp("shaped") / "run"
    session = small.session(folder, out, budget="80steps", training__lr=5e-3, data__max_side=32)
    for _ in session.steps():
        pass
    session.write_weights("now")
    return kuosan.load(out)


def headers(sizes: tuple[tuple[int, int], ...]) -> list[Header]:
    return [Header(h, w, 1, "L", "uint8") for h, w in sizes]


def test_shapes_keep_more_of_the_pictures_and_are_of_one_area() -> None:
    rng = np.random.Generator(np.random.Philox(key=1))
    sizes = tuple((600, int(600 * a)) for a in np.exp(rng.uniform(-0.8, 0.8, 200)))
    shapes, told = choose_shapes(headers(sizes), (64, 64), "auto")
    aspects = np.array([w / h for h, w in sizes])
    one, several = kept(aspects, (64, 64)).mean(), np.max([kept(aspects, s) for s in shapes], 0).mean()
    assert len(shapes) > 2 and several > 0.9 > one
    assert all(0.8 <= h * w / 4096 <= 1.15 and h % 8 == w % 8 == 0 for h, w in shapes)
    assert f"lose {1 - one:.0%}" in told[0][2] and f"lose {1 - several:.0%}" in told[0][2]
    assert choose_shapes(headers(sizes), (64, 64), "crop") == ([], [])
    assert choose_shapes(headers(((60, 64),) * 90), (64, 64), "auto")[0] == [], "nearly alike"
    assert choose_shapes(headers(sizes[:9]), (64, 64), "auto")[0] == [], "too few"
    assert kept(np.array([2.0]), (10, 10))[0] == 0.5 and (64, 64) in candidates(4096, 8)


def test_a_step_has_one_shape_and_every_item_comes_as_often() -> None:
    shelves = [torch.arange(0, 50), torch.arange(50, 57), torch.arange(57, 60)]
    seen: Counter[int] = Counter()
    steps, batch = 40 * ROUND, 6
    for step in range(steps):
        index = shelf_index(3, step, batch, shelves)
        assert sum(bool(torch.isin(index, shelf).all()) for shelf in shelves) == 1
        assert torch.equal(index, shelf_index(3, step, batch, shelves)), "a function of seed and step"
        seen.update(index.tolist())
    share = steps * batch / 60
    for shelf in shelves:  # systematic: a shelf is off by less than a visit a round, and mostly far less
        mean = sum(seen[i] for i in shelf.tolist()) / len(shelf)
        assert abs(mean - share) < 4 * batch * 40**0.5 / len(shelf)
        counts = [seen[i] for i in shelf.tolist()]
        assert max(counts) - min(counts) <= 2, "each shelf is walked through"
    assert not torch.equal(shelf_index(4, 0, 6, shelves), shelf_index(3, 0, 6, shelves))


def test_batches_of_training_have_a_shape_and_all_others_the_usual_one(run: kuosan.Run) -> None:
    data = data_of(run)
    modality = data.modality
    assert isinstance(modality, ImageModality) and modality.shapes[0] == modality.shape[1:] == (8, 32)
    assert sorted(modality.shapes) == [(8, 32), (16, 16), (32, 8)]
    for shelf, shape in zip(data.train.shelves, modality.shapes, strict=True):
        assert data.train.batch(shelf, Seeds.of(0, len(shelf)))[0].shape[2:] == shape
    x, _ = data.train.batch(torch.arange(len(data.train)))
    assert x.shape[1:] == (1, 8, 32)
    with pytest.raises(ValueError, match="of one size"):
        data.train.batch(torch.arange(len(data.train)), Seeds.of(0, len(data.train)))
    assert type(modality).from_spec(modality.spec()).spec() == modality.spec()
    assert not load(run.facts.recipe.data.path, max_side=32).train.shelves, "nobody asked"


def test_samples_of_each_shape_look_like_its_pictures(run: kuosan.Run) -> None:
    for size, axis in (("8x32", 3), ("32x8", 2), ("28x8", 2)):
        steering = run.steer(size=size)
        x = run.sample(4, steering=steering, steps=6, solver="dpm++2m").x
        n = x.shape[axis]
        rise = x.narrow(axis, n - n // 4, n // 4).mean() - x.narrow(axis, 0, n // 4).mean()
        assert f"{x.shape[2]}x{x.shape[3]}" == size and float(rise) > 0.4, "a ramp along the long side"
        assert steering is not None and steering.of(run, range(1)).window == tuple(x.shape[2:]), "no windows"
    assert run.sample(2, **STEPS).x.shape[2:] == (8, 32)
    with pytest.raises(UserError, match="smaller than"):
        run.steer(size="4x4")
    section = shapes_section(run, data_of(run).train)
    assert section is not None and len(section.figures) == 3


def test_positions_of_other_shapes_lie_about_the_same_middle() -> None:
    main, other = positions((4, 4), 32), positions((2, 6), 32, None, (4, 4))
    assert torch.equal(positions((4, 4), 32, None, (4, 4)), main)
    rows, middle = main.reshape(4, 4, 32), other.reshape(2, 6, 32)
    assert torch.allclose(middle[:, 1:5], rows[1:3], atol=1e-6)
    spec = {
        "kind": "transformer",
        "channels": 1,
        "sides": [16, 16],
        "patch": 4,
        "dim": 32,
        "depth": 1,
        "heads": 1,
    }
    tight, free = (
        build_network(spec | more, torch.Generator().manual_seed(0)) for more in ({}, {"free": True})
    )
    x, label = torch.ones(1, 1, 16, 16), torch.tensor([3.0])
    assert torch.equal(tight(x, label), free(x, label)) and free(x[..., :8], label).shape[3] == 8
    with pytest.raises(ValueError, match="built for"):
        tight(x[..., :8], label)


@pytest.mark.foreign_rng("diffusers initialises its own weights")
def test_a_unet_takes_other_shapes_too() -> None:
    spec = {"kind": "unet", "channels": 1, "sides": [16, 16], "base": 8, "mults": [1, 2], "blocks": 1, "attention": [1],
            "coordinates": True, "free": True}  # fmt: skip
    net = build_network(spec, torch.Generator().manual_seed(0))
    assert net(torch.ones(1, 1, 8, 24), torch.tensor([3.0])).shape == (1, 1, 8, 24)
    where = net._around((8, 24))  # type: ignore[operator]
    assert torch.allclose(where[:, 2:6, 4:20], net.where[:, 6:10], atol=1e-6)  # type: ignore[index]


def test_a_run_goes_on_as_if_it_had_not_stopped(folder: Path, tmp_path: Path) -> None:
    def weights(out: Path, stop: int) -> dict[str, torch.Tensor]:
        session = small.session(folder, out, budget="4steps", training__save_seconds=0, data__max_side=32)
        for event in session.steps():
            if event.step == stop:
                break
        if stop:
            session = reopen(out)
            list(session.steps())
        return dict(session.training.average.state_dict())

    straight, broken = weights(tmp_path / "a", 0), weights(tmp_path / "b", 2)
    assert all(torch.equal(straight[name], broken[name]) for name in straight)


@pytest.mark.parametrize(
    "schedule", [Rectified(), Cosine(), VPLinear(), EDM()], ids=lambda s: type(s).__name__
)
@pytest.mark.parametrize("scale", [0.6, 1.7, 4.0])
def test_times_move_with_the_size(schedule: Schedule, scale: float) -> None:
    for grid in (LogSNR(), Karras()):
        times = grid(schedule, 8)
        moved = resized(schedule, times, scale)
        assert bool((moved.diff() < 0).all()) and moved[-1] == times[-1]
        assert bool((moved[1:-1] > times[1:-1]).all()) == (scale > 1)
    t = torch.tensor([1.0, 0.8, 0.5, 0.1, 0.0], dtype=torch.float64)
    if isinstance(schedule, Rectified):
        assert torch.allclose(resized(schedule, t, scale), scale * t / (1 + (scale - 1) * t), atol=1e-9)
    assert torch.allclose(resized(schedule, t, 1.0), t, atol=1e-9)


def test_wishes_that_exclude_each_other_say_so(folder: Path, tmp_path: Path) -> None:
    for leaves in ({"data__enlarge": 2}, {"training__crops": 0.5}, {"codec": "kl_vae"}):
        with pytest.raises(UserError, match="keep their shapes, but"):
            small.session(folder, tmp_path / "no", data__aspect="buckets", data__max_side=32, **leaves)
