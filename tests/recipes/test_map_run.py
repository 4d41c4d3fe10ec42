"""Runs with maps beside their pictures: read by name, kept with crops of size, asked for in samples, judged."""

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
from kuosan.evaluation.found import Found
from kuosan.evaluation.mapped import CHANCE, NAME, accuracy, judge_mapped
from kuosan.guidance import ClassifierFree
from kuosan.modalities import load
from kuosan.modalities.beside import Mapped
from kuosan.modalities.folder import open_folder
from kuosan.modalities.maps import Book, boxes_map, find_maps
from kuosan.networks.conditions import AUGMENT
from kuosan.recipes import judged
from kuosan.recipes.evaluate import data_of
from kuosan.training.augment import Augmentation, Augmented
from tests.recipes import small

STEPS = {"steps": 2, "solver": "dpm++2m"}
SIDE = 8


def scenes(folder: Path, count: int = 24, masks: str = "masks") -> Path:
    """Grey pictures, light in a box and dark around it, and the boxes as masks of 0 and 7."""
    rng = np.random.Generator(np.random.Philox(key=5))
    for name in ("images", masks):
        (folder / name).mkdir(parents=True)
    for i in range(count):
        top, left = (int(v) for v in rng.integers(0, 4, 2))
        mask = np.zeros((SIDE, SIDE), np.uint8)
        mask[top : top + 4, left : left + 4] = 7
        x = np.where(mask > 0, 220, 30) + rng.integers(-20, 20, mask.shape)
        Image.fromarray(x.astype(np.uint8)).save(folder / "images" / f"{i:02d}.png")
        Image.fromarray(mask).save(folder / masks / f"{i:02d}.png")
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return scenes(tmp_path_factory.mktemp("scenes"))


@pytest.fixture(scope="module")
def run(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> kuosan.Run:
    out = tmp_path_factory.mktemp("mapped") / "run"
    session = small.session(folder, out, budget="150steps", network__patch=2, training__lr=5e-3)
    for _ in session.steps():
        pass
    session.write_weights("now")
    return kuosan.load(out)


def test_pictures_without_a_map_are_left_out_again_when_a_run_reads_its_data(tmp_path: Path) -> None:
    """Else they would be measured against, and a resumed run would train on them."""
    folder = scenes(tmp_path / "some")
    np.savez(folder / "others.npz", np.zeros((9, SIDE, SIDE), np.uint8))
    first = load(folder, options={"image": {"map": "auto"}})
    again = load(folder, like=first.modality)
    assert first.survey.items == again.survey.items == 24
    assert torch.equal(first.val.x[torch.arange(len(first.val))], again.val.x[torch.arange(len(again.val))])
    for path in (folder / "masks").iterdir():  # where none has one, they are a person's own items
        path.unlink()
    assert load(folder, like=first.modality).survey.items == 33


def test_maps_go_where_augmented_pictures_go(folder: Path) -> None:
    data = load(folder, options={"image": {"map": "auto"}})
    count = len(data.train)
    items = Augmented(data.train, Augmentation(("flip", "turn", "shift"), 0.7))
    for turn in range(4):
        x, cond = items.batch(torch.arange(count), Seeds.of(turn, count))
        assert torch.equal(cond[BESIDE][:, 1:], (x > 0).float()) and bool(cond[AUGMENT].any())
    coloured = Augmented(data.train, Augmentation(("colour", "scale"), 1.0))
    x, cond = coloured.batch(torch.arange(count), Seeds.of(9, count))
    light, dark = (float(x[(cond[BESIDE][:, 1:] > 0.99) == of].mean()) for of in (True, False))
    assert (
        torch.allclose(cond[BESIDE].sum(1), torch.ones(count, SIDE, SIDE), atol=1e-5) and light > dark + 0.8
    )


def test_small_data_with_maps_is_augmented(folder: Path, tmp_path: Path) -> None:
    session = small.session(folder, tmp_path / "run", budget="2000steps", network__patch=2)
    assert session.facts.recipe.training.augment != "none" and isinstance(session.training.train, Augmented)


def test_maps_are_found_by_their_usual_names_and_stand_beside_their_own_pictures(folder: Path) -> None:
    data = load(folder, options={"image": {"map": "auto"}})
    assert data.survey.items == 24 and not data.columns
    x, cond = data.train.batch(torch.arange(len(data.train)), Seeds.of(0, len(data.train)))
    assert x.shape[1:] == (1, SIDE, SIDE)
    beside = cond[BESIDE]
    assert torch.equal(beside[:, 1:], (x > 0).float()) and torch.equal(
        beside.sum(1), torch.ones(len(x), SIDE, SIDE)
    )
    modality = data.modality
    assert modality.beside == Mapped("masks", ("0", "7"))
    assert type(modality).from_spec(modality.spec()).spec() == modality.spec()
    none = load(folder, options={"image": {"map": "none"}})
    assert none.survey.items == 48 and set(none.columns["class"]) == {"images", "masks"}
    with pytest.raises(UserError, match="has a map in a folder called labels"):
        load(folder, options={"image": {"map": "labels"}})


def test_boxes_of_voc_are_maps_small_ones_over_large_ones(tmp_path: Path) -> None:
    (tmp_path / "JPEGImages").mkdir()
    (tmp_path / "Annotations").mkdir()
    Image.fromarray(np.zeros((6, 8, 3), np.uint8)).save(tmp_path / "JPEGImages/a.png")
    boxes = (("cell", (2, 2, 4, 4)), ("slide", (1, 0, 8, 6)))
    objects = "".join(
        f"<object><name>{n}</name><bndbox><xmin>{b[0]}</xmin><ymin>{b[1]}</ymin><xmax>{b[2]}</xmax>"
        f"<ymax>{b[3]}</ymax></bndbox></object>" for n, b in boxes
    )  # fmt: skip
    text = f"<annotation><size><width>8</width><height>6</height></size>{objects}</annotation>"
    (tmp_path / "Annotations/a.xml").write_text(text)
    book = Book()
    found = book.read(find_maps(open_folder(tmp_path), "auto").paths["JPEGImages/a.png"])
    classes = book.classes({})
    assert classes == ("background", "cell", "slide")
    expected = boxes_map("slide:1,0,8,6; cell:2,2,4,4", classes, 6, 8)
    assert np.array_equal(book.table(classes, {})[found], expected)
    (tmp_path / "Annotations/a.xml").write_text("<annotation><size>")
    with pytest.raises(UserError, match="damaged"):
        Book().read(tmp_path / "Annotations/a.xml")


def test_labels_are_told_by_number_palette_and_colour(tmp_path: Path) -> None:
    labels = np.array([[0, 1], [2, 255]], np.uint8)
    grey, palette = Image.fromarray(labels), Image.fromarray(labels)
    palette = palette.convert("P")
    palette.putpalette([i % 251 for i in range(768)])
    palette = Image.fromarray(labels, "P") if np.asarray(palette).tolist() != labels.tolist() else palette
    for name, picture in (("grey", grey), ("palette", palette)):
        picture.save(tmp_path / f"{name}.png")
        book = Book()
        found = book.read(tmp_path / f"{name}.png")
        assert book.classes({}) == ("0", "1", "2"), "255 is what nobody knows, where there are other labels"
        assert book.table(("0", "1", "2"), {})[found].tolist() == labels.tolist()
        assert book.classes({"1": "sky"}) == ("0", "sky", "2")
    colours = np.array([[[255, 0, 0], [0, 0, 255]]], np.uint8)
    Image.fromarray(colours).save(tmp_path / "colours.png")
    book = Book()
    found = book.read(tmp_path / "colours.png")
    assert book.table(("#ff0000", "#0000ff"), {})[found].tolist() == [[0, 1]]
    noise = np.arange(10000, dtype=np.uint16).reshape(100, 100)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    with pytest.raises(UserError, match="no labels"):
        Book().read(tmp_path / "noise.png")


def test_samples_have_what_the_map_asks_for(run: kuosan.Run, folder: Path, tmp_path: Path) -> None:
    asked = np.zeros((SIDE, SIDE), np.uint8)
    asked[1:5, 3:7] = 7
    Image.fromarray(asked).save(tmp_path / "map.png")
    want = torch.from_numpy(asked > 0)
    for steering in (run.steer(map=tmp_path / "map.png"), run.steer(boxes="7:3,1,7,5")):
        x = run.sample(6, steering=steering, steps=6, solver="dpm++2m").x[:, 0]
        assert float(((x > 0) == want).float().mean()) > 0.85
    assert run.steer(boxes="7:3,1,7,5", size="8x16") is not None
    wide = run.sample(2, steering=run.steer(boxes="7:10,1,14,5", size="8x16"), **STEPS)
    assert wide.x.shape == (2, 1, 8, 16)
    other = data_of(run, folder).train.batch(torch.arange(4))[1][BESIDE]
    assert other.shape == (4, 2, SIDE, SIDE), "the run's own form reads them again"


def test_guidance_leaves_the_map_away_on_one_side(run: kuosan.Run) -> None:
    model, x = run.model, Seeds.of(0, 2).normal(torch.empty(2, 1, SIDE, SIDE))
    t, beside = torch.full((2,), 0.6, dtype=torch.float64), torch.ones(2, 2, SIDE, SIDE)
    with torch.no_grad():
        told, untold = model(x, t, **{BESIDE: beside}).mean, model(x, t).mean
        zero = model(x, t, **{BESIDE: torch.zeros_like(beside)}).mean
        guided = ClassifierFree(model, 2.5, {})(x, t, **{BESIDE: beside}).mean
    assert torch.allclose(untold, zero) and not torch.allclose(told, untold, atol=1e-3)
    assert torch.allclose(guided, untold + 2.5 * (told - untold), atol=1e-5)


def test_wishes_that_cannot_be_say_why(run: kuosan.Run, tmp_path: Path) -> None:
    for words, wishes in (
        ("it can be", {"boxes": "cat:0,0,2,2"}),
        ("does not lie in 8×8", {"boxes": "7:0,0,9,2"}),
        ("is no box", {"boxes": "7:0,0"}),
        ("no map", {"map": tmp_path / "gone.png"}),
    ):
        with pytest.raises(UserError, match=words):
            run.steer(**wishes)


def test_a_segmenter_tells_what_was_asked_for_from_what_was_not() -> None:
    generator = torch.Generator().manual_seed(0)
    maps = (
        torch.randint(0, 2, (40, 4, 4), generator=generator).repeat_interleave(3, 1).repeat_interleave(3, 2)
    )
    x = (2.0 * maps - 1)[:, None] + 0.3 * torch.randn(40, 1, 12, 12, generator=generator)
    for made, high in ((x[:10], True), (x[:10].flip(0), False)):
        found = Found(generator)
        judge_mapped(found, made, maps[:10], x[:10], x[10:], maps[10:], 2, seconds=1.2)
        value, chance = found.metrics[NAME], found.metrics[CHANCE]
        assert value.floor is not None and value.floor > 0.95
        assert (value.value > 0.95) == high and chance.value < 0.7
    asked = torch.tensor([[[0, 0, 0, 1]]])
    assert accuracy(torch.zeros(1, 1, 4, dtype=torch.int64), asked, 2)[0] == 0.5, "rare classes count as much"
    assert accuracy(torch.zeros(1, 1, 4, dtype=torch.int64), torch.tensor([[[0, 2, 2, 2]]]), 2)[0] == 1, (
        "unknown ones not"
    )


def test_held_out_maps_are_asked_for_again(run: kuosan.Run) -> None:
    data = data_of(run)
    section = judged.beside_section(run, data.val)
    assert section is not None and section.id == "mapped"
    one = judged.again(run, data.train, 8)
    wanted = one.beside[:, 1:] > 0
    assert float(((one.made > 0) == wanted).float().mean()) > 0.8
