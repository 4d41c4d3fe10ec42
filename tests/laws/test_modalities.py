"""Laws of every modality: files and states go back and forth without a loss that is not stated.

A modality is tested by being registered: one without a case here fails the first test.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
import torch

from kuosan.core.random import Seeds
from kuosan.modalities import (
    AudioModality,
    Blocks,
    Clip,
    Cloud,
    Dataset,
    ImageFormat,
    ImageModality,
    MedicalForm,
    MedicalModality,
    Modality,
    Motion,
    MotionModality,
    MusicModality,
    Picture,
    Plan,
    PlanModality,
    PointsModality,
    RollModality,
    Scan,
    Shape,
    ShapeForm,
    ShapeModality,
    Sound,
    TextModality,
    Unreadable,
    VideoFormat,
    VideoModality,
    VoxelModality,
    known_modalities,
    load,
    modality_from_spec,
    train_tokeniser,
)
from kuosan.modalities.audio_form import form_at
from kuosan.modalities.audio_mel import frames_of
from kuosan.modalities.motion_bvh import bvh_text, parse_bvh
from kuosan.modalities.motion_form import fitted
from kuosan.modalities.motion_project import Limits
from kuosan.modalities.music_form import Form, Instrument
from kuosan.modalities.music_score import Part, Score
from kuosan.modalities.points_form import PointsForm
from tests.modalities.motion import walk
from tests.modalities.music import some_score
from tests.modalities.plans import random_states, some_form
from tests.modalities.shapes import box, surface
from tests.modalities.sounds import RATE, tone


@dataclass(frozen=True)
class Case:
    """A modality, items that it holds, and the suffix of their files; and when states of items are alike: where they
    are equal, if nothing is lost, and else where they differ by no more than the stated loss."""

    modality: Modality[Any]
    raws: list[Any]
    suffix: str
    alike: Callable[[torch.Tensor, torch.Tensor], bool] = torch.equal

    def near(self, one: Any, other: Any) -> bool:
        if self.alike is torch.equal:
            return same(one, other)
        return self.alike(self.modality.encode([one]), self.modality.encode([other]))


def pictures() -> Case:
    rng = np.random.default_rng(0)
    raws = [Picture(rng.integers(0, 256, (6, 5, 3)).astype(np.uint8), "RGB") for _ in range(24)]
    return Case(ImageModality(ImageFormat(6, 5, 3, "RGB", "uint8", 0.0, 255.0)), raws, ".png")


def texts(kind: str) -> Case:
    rng = np.random.default_rng(1)
    words = ["river", "moon", "秋风", "\n", "naïve", "<0x0A>", "😀", "  "]
    raws = [f"{i} " + " ".join(rng.choice(words, 6)) for i in range(24)]
    tokeniser, _ = train_tokeniser(raws, kind, "auto" if kind == "bytes" else 300)
    return Case(TextModality(tokeniser, max(len(tokeniser.encode(raw)) for raw in raws)), raws, ".txt")


def music() -> Case:
    """Pieces of one form, all as long as a window."""
    raws = [some_score(seed) for seed in range(24)]
    parts = tuple(Instrument(p.name, p.program, 1) for p in raws[0].parts)
    form = Form(4, 30, 90, parts, metre=raws[0].metre)
    modality = MusicModality(form, int(max(raw.length for raw in raws) * 4))
    # A state has no key or tempo of its own: what comes back has those that it is heard in.
    return Case(modality, modality.decode(modality.encode(raws)), ".mid")


def rolls() -> Case:
    """The same pieces, with two parts that are one: notes of any number at once."""
    raws = [some_score(seed) for seed in range(24)]
    piano = [Part(tuple(sorted({*raw.parts[0].notes, *raw.parts[2].notes})), "Piano") for raw in raws]
    raws = [replace(raw, parts=(one, raw.parts[1])) for raw, one in zip(raws, piano, strict=True)]
    form = Form(
        4, 30, 90, tuple(Instrument(p.name, p.program, 2) for p in raws[0].parts), metre=raws[0].metre
    )
    modality = RollModality(form, int(max(raw.length for raw in raws) * 4))
    return Case(modality, modality.decode(modality.encode(raws)), ".mid")


def scans(*sides: int, patches: bool = False) -> Case:
    """Slices in Hounsfield units, and volumes of no unit, or patches of their size."""
    rng = np.random.default_rng(4)
    unit, kind, spacing = ("HU", "CT", (0.5, 0.75)) if len(sides) == 2 else ("raw", "MR", (2.0, 0.5, 0.75))
    form = MedicalForm(sides, -1024.0, 1000.0, unit, kind, True, spacing, "SPL")
    modality = MedicalModality(replace(form, scan=sides if patches else ()))
    values = rng.integers(-1024, 1001, (24, *sides)).astype(np.float32)
    raws = [Scan(v, unit, kind, modality.form.affine, whole=True) for v in values]
    return Case(modality, raws, ".dcm" if len(sides) == 2 else ".nii.gz")


def sounds(channels: int) -> Case:
    """A state has the levels of bands and no phases: what is within 25 dB of the loudest comes back within 3 dB on
    average, of pure tones, which are the worst; and a sound's length exactly."""
    form = replace(form_at(RATE, channels, 16), peak=-6.0)
    raws = [tone(200 + 40 * i, (1 + i % 16) * form.hop / RATE, channels=channels) for i in range(24)]

    def alike(x: torch.Tensor, y: torch.Tensor) -> bool:
        loud = torch.maximum(x, y) > 1 - 25 * 1.8 / 80
        return frames_of(x) == frames_of(y) and float((x - y)[loud].abs().mean()) < 3 * 1.8 / 80

    return Case(AudioModality(form), raws, ".wav", alike)


def clips() -> Case:
    """As long as a window, at its rate."""
    rng = np.random.default_rng(3)
    raws = [Clip(rng.integers(0, 256, (4, 6, 5, 3)).astype(np.uint8), "RGB", 8.0) for _ in range(24)]
    frame = ImageFormat(6, 5, 3, "RGB", "uint8", 0.0, 255.0)
    return Case(VideoModality(VideoFormat(4, 8.0, frame)), raws, ".webp")


def motions() -> Case:
    """As a file has them, in six digits; a state is of single precision, and forgets where a motion begins."""
    raws = [parse_bvh(bvh_text(walk(seed, 16))) for seed in range(24)]
    modality = MotionModality(fitted(raws), 16, Limits.of(raws))

    def alike(x: torch.Tensor, y: torch.Tensor) -> bool:
        return torch.allclose(x, y, rtol=0, atol=1e-5)

    return Case(modality, raws, ".bvh", alike)


def blocks(kind: type[ShapeModality] = ShapeModality) -> Case:
    """Painted voxels of one size."""
    rng = np.random.default_rng(4)
    palette = np.array([[250, 30, 20], [30, 200, 40], [0, 0, 0]], np.uint8)
    raws: list[Any] = []
    for _ in range(24):
        filled = rng.random((4, 5, 6)) > 0.5
        filled[0, 0, 0] = filled[-1, -1, -1] = True
        raws.append(Blocks.of_grid(filled, palette[rng.integers(0, 3, filled.shape)]))
    colours = tuple((int(r), int(g), int(b)) for r, g, b in palette)
    form = ShapeForm((4, 8, 8), 1.0, True, palette=colours, suffix=".vox", mirror="x")
    return Case(kind(form), raws, ".vox")


def surfaces() -> Case:
    """Boxes, as the grid has them."""
    rng = np.random.default_rng(5)
    modality = ShapeModality(ShapeForm((8, 8, 8), 0.5, mirror="xy"))
    sizes = [tuple(rng.uniform(0.8, 2.0, 3)) for _ in range(24)]
    raws = [surface(box((x, y, z))) for x, y, z in sizes]
    return Case(modality, modality.decode(modality.encode(raws)), ".npz")


def clouds() -> Case:
    """As many points as a state has, where they lie."""
    rng = np.random.default_rng(6)
    ends = ((-2.0,) * 3, (2.0,) * 3)
    modality = PointsModality(PointsForm(40, (1.0, -2.0, 0.5), 1.7, False, 0.0, *ends, mirror="xy"))  # type: ignore[arg-type]
    raws = [Cloud(rng.normal(size=(40, 3))) for _ in range(24)]
    return Case(modality, modality.decode(modality.encode(raws)), ".npz")


def plans() -> Case:
    """What states of any tokens come to."""
    modality = PlanModality(some_form(step=0.1))
    return Case(modality, modality.decode(torch.from_numpy(random_states(modality.form, 24))), ".geojson")


CASES = {
    "audio": [sounds(1), sounds(2)],
    "image": [pictures()],
    "motion": [motions()],
    "medical": [scans(6, 5), scans(4, 6, 5), scans(4, 6, 5, patches=True)],
    "music": [music()],
    "plan": [plans()],
    "points": [clouds()],
    "roll": [rolls()],
    "shape": [blocks(), surfaces()],
    "text": [texts(kind) for kind in ("characters", "bytes", "bpe", "unigram")],
    "video": [clips()],
    "voxels": [blocks(VoxelModality)],
}
EVERY = [pytest.param(case, id=f"{name}{i}") for name, cases in CASES.items() for i, case in enumerate(cases)]
every = pytest.mark.parametrize("case", EVERY)


def same(one: Any, other: Any) -> bool:
    if isinstance(one, Clip):
        return one.same(other)
    if isinstance(one, Picture):
        return one.mode == other.mode and np.array_equal(one.pixels, other.pixels)
    if isinstance(one, Scan):
        return one.same(other)
    if isinstance(one, Sound):
        return one.same(other)
    if isinstance(one, Motion):
        return one.skeleton == other.skeleton and bool(np.allclose(one.points(), other.points(), atol=1e-5))
    if isinstance(one, Shape):
        return one.same(other)
    if isinstance(one, Plan):
        return told(one) == told(other)
    if isinstance(one, Score):  # MIDI has no silence after the last note
        return replace(one, end=0.0) == replace(other, end=0.0)
    return bool(one == other)


def told(plan: Plan) -> list[str]:
    """Rooms and openings, in any order."""
    rooms = [
        f"{r.category} {shapely.normalize(shapely.set_precision(r.polygon, 1e-6)).wkt}" for r in plan.rooms
    ]
    ends = [
        (o.kind, *sorted((tuple(np.round(o.a, 6) + 0.0), tuple(np.round(o.b, 6) + 0.0))))
        for o in plan.openings
    ]
    return sorted([*rooms, *map(str, ends)])


def written(case: Case, folder: Path) -> list[Path]:
    return [case.modality.write(raw, folder / f"{i:03d}{case.suffix}") for i, raw in enumerate(case.raws)]


def data(case: Case, folder: Path) -> Dataset:
    written(case, folder)
    return load(folder, like=case.modality)


def test_every_modality_has_a_case() -> None:
    assert set(CASES) == set(known_modalities())
    assert all(case.modality.name == name for name, cases in CASES.items() for case in cases)


@every
def test_decoding_undoes_encoding(case: Case) -> None:
    x = case.modality.encode(case.raws)
    assert len(x) == len(case.raws)
    back = case.modality.decode(x)
    assert all(case.near(one, other) for one, other in zip(case.raws, back, strict=True))
    assert case.alike(case.modality.encode(back), x)


@every
def test_an_item_is_encoded_alone(case: Case) -> None:
    x = case.modality.encode(case.raws)
    assert torch.equal(torch.cat([case.modality.encode([raw]) for raw in case.raws]), x)


@every
def test_reading_undoes_writing(case: Case, tmp_path: Path) -> None:
    for raw, path in zip(case.raws, written(case, tmp_path), strict=True):
        assert same(case.modality.read(path), raw)


@every
def test_the_specification_and_the_files_rebuild_it(case: Case) -> None:
    spec, files = json.loads(json.dumps(case.modality.spec())), case.modality.files()
    again = modality_from_spec(spec, files.__getitem__)
    assert again.spec() == case.modality.spec() and again.files() == files
    assert torch.equal(again.encode(case.raws), case.modality.encode(case.raws))
    assert again.level == case.modality.level


@every
def test_a_folder_gives_the_states_of_its_files(case: Case, tmp_path: Path) -> None:
    found = data(case, tmp_path)
    known = {f"{i:03d}{case.suffix}": x for i, x in enumerate(case.modality.encode(case.raws))}
    for split in (found.train, found.val):
        x, _ = split.batch(torch.arange(len(split)))
        assert all(torch.equal(row, known[name]) for row, name in zip(x, split.names, strict=True))
    assert len(found.train) + len(found.val) == len(case.raws)


@every
def test_a_view_depends_on_its_item_and_its_seed_alone(case: Case, tmp_path: Path) -> None:
    train = data(case, tmp_path).train
    every_item = torch.arange(len(train))
    together, _ = train.batch(every_item, Seeds.of(5, len(train)))
    for part in (slice(0, 1), slice(3, 9)):
        alone, _ = train.batch(every_item[part], Seeds.of(5, range(len(train))[part]))
        assert torch.equal(alone, together[part])
    assert torch.equal(train.batch(every_item, Seeds.of(5, len(train)))[0], together)


@every
def test_a_damaged_file_is_named(case: Case, tmp_path: Path) -> None:
    path = tmp_path / f"damaged{case.suffix}"
    path.write_bytes(np.random.default_rng(2).integers(0, 256, 500).astype(np.uint8).tobytes())
    with pytest.raises(Unreadable, match="damaged"):
        case.modality.read(path)


@every
def test_items_can_be_looked_at(case: Case) -> None:
    one, many = (case.modality.show(case.raws[:n]) for n in (1, 9))
    assert one.mode == many.mode == "RGB" and many.width > one.width and many.height > one.height
    assert len(many.getcolors(1 << 20) or ()) > 2
