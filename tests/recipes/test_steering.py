"""Samples that are steered by items: what stays is there to the bit, strength has its two ends, larger ones fit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import kuosan
from kuosan.core.random import Seeds
from kuosan.core.schedules import EDM, Cosine
from kuosan.core.shapes import BESIDE
from kuosan.errors import UserError
from kuosan.modalities import ImageModality
from kuosan.modalities.base import Modality
from kuosan.modalities.image_format import ImageFormat
from kuosan.processes.gaussian import GaussianProcess
from kuosan.recipes.build import objective_of
from kuosan.recipes.steering import Parts, Steered, Steering, begun, onward
from kuosan.recipes.wishes import kept
from kuosan.solvers import Step
from kuosan.training.given import Masks
from tests.recipes import small

STEPS = {"steps": 3, "solver": "dpm++2m"}


@pytest.fixture(scope="module")
def told(data: Path, tmp_path_factory: pytest.TempPathFactory) -> kuosan.Run:
    """A run whose network is told of given parts."""
    out = tmp_path_factory.mktemp("told") / "run"
    session = small.session(data, out, training__given=0.5, budget="3steps")
    for _ in session.steps():
        pass
    session.write_weights("now")
    return kuosan.load(out)


@pytest.fixture(scope="module")
def file(data: Path) -> Path:
    return sorted((data / "wide").iterdir())[0]


def state(run: kuosan.Run, file: Path) -> Tensor:
    return run.modality.encode([run.modality.read(file)])


def pictures(height: int, width: int) -> ImageModality:
    return ImageModality(ImageFormat(height, width, 1, "L", "uint8", 0.0, 255.0))


@pytest.mark.parametrize("kind", ["run", "told"])
def test_what_is_given_comes_back_to_the_bit_and_the_rest_is_made(
    kind: str, file: Path, request: pytest.FixtureRequest
) -> None:
    run: kuosan.Run = request.getfixturevalue(kind)
    steering = run.steer(given=file, keep=["height:0-3"])
    samples = run.sample(3, steering=steering, **STEPS)
    x = state(run, file)
    assert torch.equal(samples.x[:, :, :4], x[:, :, :4].expand(3, -1, -1, -1))
    assert float(samples.x[:, :, 4:].std(0).min()) > 0 and not torch.equal(samples.x[:1, :, 4:], x[:, :, 4:])
    assert torch.allclose(run.sample(1, first=2, steering=steering, **STEPS).x, samples.x[2:], atol=1e-5)
    other = run.sample(3, steering=run.steer(given=-x, keep=["height:0-3"]), **STEPS).x
    assert not torch.equal(other[:, :, 4:], samples.x[:, :, 4:]), "the rest hears of it"


def test_the_network_is_told_only_where_it_was_trained_so(
    run: kuosan.Run, told: kuosan.Run, file: Path
) -> None:
    for one, trained in ((run, False), (told, True)):
        assert bool(one.facts.network.get("given")) == trained
        steering = one.steer(given=file, keep=["width:first"])
        assert steering is not None and steering.trained == trained
        around = steering.of(one, range(2)).around(one.model)
        assert around.trained == trained and around.corrections == (0 if trained else 2)  # type: ignore[union-attr]
    recipe = told.facts.recipe
    assert recipe.training.given == 0.5 and run.facts.recipe.training.given == 0
    assert objective_of(recipe, told.modality).given == Masks(0.5)  # type: ignore[attr-defined]


def test_conditions_are_the_item_s_own_or_hidden_and_where_is_over_them(
    run: kuosan.Run, file: Path, data: Path
) -> None:
    null = run.facts.null["class"]
    assert run.sample(2, steering=run.steer(vary=file), **STEPS).cond["class"].tolist() == [null] * 2
    where = {"class": "flat"}
    steering = run.steer(vary=file, where=where)
    found = run.sample(2, steering=steering, where=where, **STEPS)
    assert found.columns()["class"] == ["flat"] * 2
    steering = run.steer(given=data, keep=["height:last"])
    assert steering is not None and steering.items == sum(small.COUNTS.values())
    found = run.sample(4, first=steering.items - 2, steering=steering, **STEPS)
    names = found.columns()["class"]
    assert names == ["wide", "wide", "flat", "flat"], "from the first again after the last"


@pytest.mark.parametrize("solver", ["auto", "ddim", "ancestral", "heun"])
def test_strength_zero_is_the_item_and_one_an_ordinary_sample(
    run: kuosan.Run, file: Path, solver: str
) -> None:
    asked = {"steps": 3, "solver": solver}
    none = run.sample(2, steering=run.steer(vary=file, strength=0.0), **asked)
    assert torch.equal(none.x, state(run, file).expand(2, -1, -1, -1))
    whole = run.sample(2, steering=run.steer(vary=file, strength=1.0, where={"class": "wide"}), **asked)
    plain = run.sample(2, where={"class": "wide"}, **asked)
    whole_where = run.sample(2, where={"class": "wide"}, steering=run.steer(vary=file, strength=1.0), **asked)
    assert torch.equal(whole_where.x, plain.x) and torch.equal(whole.x, plain.x)
    near, far = (
        (run.sample(6, steering=run.steer(vary=file, strength=s), **asked).x - state(run, file))
        .square()
        .mean()
        for s in (0.1, 0.8)
    )
    assert 0 < float(near) < float(far)


def test_variations_begin_with_the_noise_of_their_time_and_walk_what_is_left() -> None:
    vary = torch.full((2, 1, 4, 4), 0.5, dtype=torch.float64)
    for schedule in (Cosine(), EDM()):
        process, times = GaussianProcess(schedule), torch.tensor([0.99, 0.7, 0.3, 0.0], dtype=torch.float64)
        steered = Steered((1, 4, 4), (4, 4), vary=vary, strength=0.5)
        seeds, like = Seeds.of(0, 2), torch.empty(2, 1, 4, 4, dtype=torch.float64)
        x, left = begun(process, like, seeds, times, None, sequence=False, steered=steered)
        assert left.tolist() == [0.5, 0.3, 0.0]
        eps = seeds.fold("prior").normal(like)
        s = torch.tensor([0.5], dtype=torch.float64)
        wanted = schedule.alpha(s) * 0.5 + schedule.sigma(s) * eps
        assert torch.allclose(x, wanted, atol=1e-12)


def test_given_parts_begin_with_their_own_noise_around_them() -> None:
    process, times = GaussianProcess(Cosine()), torch.tensor([0.8, 0.0], dtype=torch.float64)
    mask = torch.zeros(1, 1, 4, dtype=torch.bool)
    mask[..., :2] = True
    steered = Steered((1, 4), (4,), given=Parts(torch.full((2, 1, 4), 3.0, dtype=torch.float64), mask))
    seeds, like = Seeds.of(0, 2), torch.empty(2, 1, 4, dtype=torch.float64)
    x, _ = begun(process, like, seeds, times, None, sequence=True, steered=steered)
    plain, _ = begun(process, like, seeds, times, None, sequence=True, steered=None)
    sigma, alpha = float(Cosine().sigma(times[:1])), float(Cosine().alpha(times[:1]))
    assert torch.allclose(x[..., :2], 3 * alpha + sigma * seeds.fold("prior").normal(like)[..., :2])
    assert torch.equal(x[..., 2:], plain[..., 2:])


@pytest.mark.parametrize("stitch", ["blend", "continue"])
def test_larger_samples_have_the_size_and_the_same_bits_in_any_batch(run: kuosan.Run, stitch: str) -> None:
    steering = run.steer(size="8x20", stitch=stitch)
    found = run.sample(3, steering=steering, where={"class": "wide"}, **STEPS)
    assert found.x.shape == (3, 1, 8, 20) and found.raws()[0].pixels.shape == (8, 20, 1)
    alone = run.sample(1, first=1, steering=steering, where={"class": "wide"}, **STEPS)
    assert torch.allclose(alone.x, found.x[1:2], atol=1e-5)
    assert run.steer(size="8") is not None and not run.steer(size="8").larger  # type: ignore[union-attr]


def test_a_smaller_item_lies_in_the_middle_of_a_larger_sample(run: kuosan.Run, file: Path) -> None:
    x = state(run, file)
    found = run.sample(2, steering=run.steer(given=file, size="12x16"), **STEPS).x
    assert torch.equal(found[:, :, 2:10, 4:12], x.expand(2, -1, -1, -1))
    assert float(found[:, :, :2].std(0).min()) > 0
    kept_left = run.steer(given=file, size="8x16", keep=["width:0-7"], stitch="continue")
    found = run.sample(2, steering=kept_left, **STEPS).x
    wide = run.modality.sized((8, 16))
    assert torch.equal(found[..., :8], wide.encode([wide.read(file)])[..., :8].expand(2, -1, -1, -1))


def test_windows_go_on_from_each_other() -> None:
    """Each is given what those before it made, all of it, and what stays besides."""
    asked: list[Steered] = []
    seen: list[list[float]] = []
    beside = torch.arange(8.0).reshape(1, 1, 8)

    def walk(one: Steered, seeds: Seeds, cond: dict[str, torch.Tensor]) -> list[Step]:
        asked.append(one)
        seen.append(cond[BESIDE][0, 0].tolist())
        x = torch.full((2, 1, 4), float(len(asked)))
        return [Step(0, torch.zeros(2), torch.zeros(2), x, None)]  # type: ignore[arg-type]

    mask = torch.zeros(1, 1, 8, dtype=torch.bool)
    mask[..., 7] = True
    steered = Steered((1, 8), (4,), given=Parts(torch.full((2, 1, 8), 9.0), mask), onward=True)
    *_, last = onward(steered, Seeds.of(0, 2), {BESIDE: beside, "class": beside[0]}, walk)  # type: ignore[arg-type]
    assert last.x[0, 0].tolist() == [1, 1, 1, 1, 2, 2, 3, 9]
    assert [None if one.given is None else one.given.mask[0, 0].tolist() for one in asked] == [
        None, [True, True, False, False], [True, True, False, True],
    ]  # fmt: skip
    assert not any(one.onward for one in asked) and all(one.shape == (1, 4) for one in asked)
    assert seen == [[0, 1, 2, 3], [2, 3, 4, 5], [4, 5, 6, 7]]


class Limbs(ImageModality):
    """Pictures whose channels belong to parts."""

    groups = {"arm": (0,), "leg": (1, 2)}  # type: ignore[assignment]

    def units(self, axis: str) -> dict[str, float]:
        return {"mm": 2.0}


def test_what_stays_is_what_is_written() -> None:
    limbs = Limbs(ImageFormat(8, 10, 3, "RGB", "uint8", 0.0, 255.0))

    def places(text: str, modality: Modality[object] = limbs) -> Tensor:
        return kept(modality, text, torch.zeros(1, *modality.shape))[0]

    want = torch.zeros(3, 8, 10, dtype=torch.bool)
    want[:, :4] = True
    assert torch.equal(places("height:0-50%"), want) and torch.equal(places("height:0-2mm"), want)
    assert torch.equal(places("height:0-3"), want) and not torch.equal(places("height:first"), want)
    want[:, :, 3:] = False
    assert torch.equal(places("height:0-3,width:0-2"), want) and torch.equal(places("box:0-3,0-2"), want)
    want[0] = False
    assert torch.equal(places("group:leg,height:0-3,width:0-2"), want)
    for text, says in {
        "height": "write height:0-50% or width:0-50%", "depth:first": "no axis 'depth'", "box:0-3": "one for each of",
        "group:head": "there are arm, leg", "width:0-90": "no places along width",
    }.items():  # fmt: skip
        with pytest.raises(UserError, match=says):
            places(text)


def test_a_mask_is_white_where_pictures_are_made_anew(run: kuosan.Run, file: Path, tmp_path: Path) -> None:
    white = np.zeros((16, 16), np.uint8)
    white[:, 8:] = 255
    Image.fromarray(white).save(tmp_path / "mask.png")
    steering = run.steer(given=file, mask=tmp_path / "mask.png")
    assert steering is not None and steering.given is not None
    assert bool(steering.given.mask[..., :4].all()) and not bool(steering.given.mask[..., 4:].any())


WRONG: dict[str, tuple[dict[str, object], str]] = {
    "everything": ({"given": "FILE"}, "nothing is left to be made"),
    "no item": ({"keep": ["height:first"]}, "add --given FILE"),
    "no variation": ({"strength": 0.5}, "add --vary FILE"),
    "strength": ({"vary": "FILE", "strength": 1.5}, "between 0"),
    "size": ({"size": "wide"}, "is no size"),
    "smaller": ({"size": "4x8"}, "smaller than the 8×8"),
    "length": ({"length": "4s"}, "have none: use --size"),
    "mask": ({"given": "FILE", "mask": "nowhere.png"}, "there is no mask at"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_is_a_sentence(name: str, run: kuosan.Run, file: Path) -> None:
    wishes, says = WRONG[name]
    with pytest.raises(UserError, match=says):
        run.steer(**{k: file if v == "FILE" else v for k, v in wishes.items()})


def test_nothing_asked_is_no_steering_and_changes_no_sample(run: kuosan.Run) -> None:
    assert run.steer() is None
    plain = Steering(run.modality, run.shape[1:])
    assert torch.equal(run.sample(2, steering=plain, **STEPS).x, run.sample(2, **STEPS).x)


def test_a_run_that_knew_no_parts_learns_them_from_where_it_stands(
    copied: Callable[[], kuosan.Run], data: Path, tmp_path: Path
) -> None:
    base = copied()
    session = small.session(
        data,
        tmp_path / "on",
        init=str(base.path),
        training__given=0.5,
        budget="1steps",
        **{"network.dim": None},
    )
    network = session.facts.network
    assert network["given"] and session.facts.recipe.training.given == 0.5
    x, t = Seeds.of(0, 3).normal(torch.empty(3, 1, 8, 8)), torch.tensor([0.2, 0.5, 0.9], dtype=torch.float64)
    cond = {"class": torch.tensor([0, 1, 2])}
    with torch.no_grad():
        mine, old = session.training.denoiser(x, t, **cond).mean, base.model(x, t, **cond).mean
    assert torch.allclose(mine, old, atol=1e-5)
