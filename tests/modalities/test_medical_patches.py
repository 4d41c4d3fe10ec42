"""Laws of patches of scans: nothing is shrunk or left out, and each says where it lies."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from kuosan.core.shapes import BESIDE
from kuosan.errors import UserError
from kuosan.modalities import Dataset, MedicalForm, MedicalModality, Scan, load, modality_from_spec
from kuosan.modalities.medical_patches import choose_patch, coordinates
from kuosan.modalities.medical_scan import axes_affine
from tests.modalities.medical import SECRETS, patient

SPACING = (3.0, 0.5, 0.75)


def nifti(path: Path, values: NDArray[Any], spacing: tuple[float, float, float] = SPACING) -> Path:
    """A volume (d, h, w), upright, in a file."""
    affine = axes_affine("SPL", spacing, values.shape) @ np.eye(4)[[2, 1, 0, 3]]
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(np.ascontiguousarray(values.T), affine), path)
    return path


def noise(seed: int, *sides: int) -> NDArray[np.int16]:
    return np.random.default_rng(seed).integers(1, 500, sides).astype(np.int16)


def people(folder: Path, sides: tuple[int, ...] = (9, 14, 21), count: int = 6) -> list[NDArray[np.int16]]:
    """A scan of each, ``folder/sub-N.nii.gz``."""
    scans = [noise(i, *sides) for i in range(count)]
    for i, values in enumerate(scans):
        nifti(folder / f"sub-{i}.nii.gz", values)
    return scans


def read(folder: Path, like: Any = None, **options: Any) -> Dataset:
    return load(folder, like=like, options={"medical": {"volume": "patches"} | options})


def stored(data: Dataset) -> list[tuple[str, NDArray[np.float32], list[int]]]:
    """Name, values (d, h, w) and place of each item."""
    return [
        (name, values.numpy()[0], place.tolist())
        for split in (data.train, data.val)
        for name, values, place in zip(split.names, split.x.values, split.x.places, strict=True)
    ]


def note(data: Dataset, what: str) -> tuple[str, str]:
    return next((value, why) for name, value, why in data.survey.notes if name == what)


@pytest.mark.parametrize("sides", [(9, 14, 21), (40, 33, 9), (5, 40, 32), (4, 3, 3)])
@pytest.mark.parametrize("size", [None, 8, (4, 12, 8)])
def test_patches_cover_a_scan_and_are_what_it_holds(tmp_path: Path, sides: Any, size: Any) -> None:
    scan = noise(0, *sides)
    nifti(tmp_path / "a.nii.gz", scan)
    data = read(tmp_path, size=size)
    patch, low = data.modality.shape[1:], data.modality.form.low
    reached = np.zeros(sides, int)
    for _, values, place in stored(data):
        assert values.shape == patch and tuple(place[3:]) == sides
        wanted = np.full(patch, low, np.float32)
        for z, y, x in np.ndindex(*patch):
            here = tuple(s + i for s, i in zip(place, (z, y, x), strict=False))
            if all(0 <= i < n for i, n in zip(here, sides, strict=True)):
                wanted[z, y, x] = scan[here]
                reached[here] += 1
        assert np.array_equal(values, wanted)
    assert reached.min() > 0
    starts = np.array([place[:3] for _, _, place in stored(data)])
    for axis in range(3):
        steps = np.diff(np.unique(starts[:, axis]))
        assert not len(steps) or steps.max() <= max(1, 0.75 * patch[axis]), "a quarter is shared"
    x = torch.cat([s.batch(torch.arange(len(s)))[0] for s in (data.train, data.val) if len(s)])
    back = data.modality.decode(x)
    assert all(np.array_equal(raw.values, v) for raw, (_, v, _) in zip(back, stored(data), strict=True))


def test_blank_ones_are_left_out_and_counted(tmp_path: Path) -> None:
    scan = np.zeros((8, 8, 40), np.int16)
    scan[..., :5] = noise(0, 8, 8, 5)
    nifti(tmp_path / "a.nii.gz", scan)
    data = read(tmp_path, size=8)
    assert {tuple(place[:3]) for _, _, place in stored(data)} == {(0, 0, 0)}
    assert any(name.endswith("patches") and "nothing" in why for name, why in data.survey.left_alone)


def test_sides_are_chosen_from_the_median_scan() -> None:
    for shapes, longest in (([(25, 41, 33)], None), ([(9, 100, 64), (30, 90, 70), (40, 80, 60)], None),
                            ([(100, 100, 100)], 24), ([(3, 50, 7)], None)):  # fmt: skip
        sides, scan, _ = choose_patch(shapes, None, longest)
        median = np.median(np.array(shapes), axis=0)
        for side, n, whole in zip(sides, median, scan, strict=True):
            assert side % 4 == 0 and 8 <= side <= (longest or 32) and (side <= n or side == 8)
            assert whole == max(n, side) and side > min(n, longest or 32) - 4
    assert choose_patch([(25, 41, 33)], 48, None)[:2] == ((48, 48, 48), (48, 48, 48))


def test_whole_patients_are_held_out_and_names_say_where(tmp_path: Path) -> None:
    people(tmp_path)
    nifti(tmp_path / "sub-0_run-2.nii.gz", noise(77, 9, 14, 21))
    data = read(tmp_path, size=8)
    sides = [set(s.groups) for s in (data.train, data.val)]
    assert sides[0] and sides[1] and not sides[0] & sides[1] and len(sides[0] | sides[1]) == 6
    names = sorted((*data.train.names, *data.val.names))
    assert names[0] == "patient 1, series 1, patch 01" and len(set(names)) == len(names)
    assert (
        note(data, "whole scans")[0] == "9×14×21 voxels" and "--size 9x14x21" in note(data, "whole scans")[1]
    )


def test_of_one_patient_blocks_of_patches_are(tmp_path: Path) -> None:
    nifti(tmp_path / "a.nii.gz", noise(0, 8, 30, 30))
    data = read(tmp_path, size=8)
    assert len(data.val) and "patches, which share voxels" in note(data, "held-out items")[1]


@pytest.mark.parametrize("case", ["raw", "relative", "spacing", "inverted", "NaN"])
def test_read_again_in_the_form_of_a_run_they_are_the_same(tmp_path: Path, case: str) -> None:
    options: dict[str, Any] = {"size": 8}
    if case == "inverted":
        for i in range(3):
            ends = "MONOCHROME1" if i else "MONOCHROME2"
            patient(tmp_path, f"{i}", i, kind="DX", slope=None, PhotometricInterpretation=ends)
    for i in range(3 if case != "inverted" else 0):
        values = noise(i, 9, 14, 21) * (10 if case == "relative" and i else 1)
        if case == "NaN":
            values = np.where(values > 480, np.nan, values).astype(np.float32)
        nifti(tmp_path / f"sub-{i}.nii.gz", values)
    options |= {"spacing": 1.0} if case == "spacing" else {}
    data = read(tmp_path, **options)
    form = data.modality.form
    assert (form.unit == "relative") == (case == "relative") and form.inverted == (case == "inverted")
    assert case != "spacing" or form.spacing == pytest.approx((1.0, 1.0, 1.0), rel=0.02)
    assert case != "NaN" or note(data, "NaN")[0] == "3 scans"
    like = modality_from_spec(json.loads(json.dumps(data.modality.spec())))
    again = read(tmp_path, like)
    for one, two in zip((data.train, data.val), (again.train, again.val), strict=True):
        assert one.names == two.names and torch.equal(one.x.values, two.x.values)
        assert torch.equal(one.x.places, two.x.places)
    assert like.form == form and like.resolved() == {"volume": "patches"}


def test_a_part_is_as_bright_alone_as_in_its_scan(tmp_path: Path) -> None:
    """What is relative is so to the whole scan, however it is cut."""
    for i in range(4):
        nifti(tmp_path / f"sub-{i}.nii.gz", noise(i, 9, 14, 21) * (10 if i else 1))
    data = read(tmp_path, size=8)
    whole = data.modality.sized((9, 14, 21))
    scans = stored(read(tmp_path, whole))
    assert data.modality.form.unit == "relative" and len(scans) == 4
    path = tmp_path / "sub-0.nii.gz"
    alone = whole.fit(whole.read(path))
    assert any(np.array_equal(alone, values) for _, values, _ in scans)
    for _, values, (z, y, x, *_) in stored(data):
        assert any(np.array_equal(values, s[z : z + 8, y : y + 8, x : x + 8]) for _, s, _ in scans)


def test_a_form_survives_json_and_old_ones_are_read() -> None:
    old = MedicalForm((8, 8, 8), 0.0, 500.0, "raw", "MR", True, SPACING, "SPL", model="abc")
    new = MedicalForm(**vars(old) | {"scan": (9, 14, 21)})
    for form in (old, new):
        assert MedicalForm.from_json(json.loads(json.dumps(form.to_json()))) == form
    facts = old.to_json()
    assert "scan" not in facts and not old.patches and new.patches
    assert MedicalModality(old).beside_channels == 0 and MedicalModality(old).beside_whole is None
    assert MedicalModality(new).beside_channels == 3
    assert "patches of 8×8×8" in MedicalModality(new).described_form()


@pytest.mark.parametrize("sides", [(9, 14, 21), (5, 40, 32)])
def test_coordinates_of_a_patch_are_those_of_its_scan_there(tmp_path: Path, sides: tuple[int, ...]) -> None:
    nifti(tmp_path / "a.nii.gz", noise(0, *sides))
    data = read(tmp_path, size=8)
    whole = coordinates(torch.tensor([[0, 0, 0, *sides]]), sides)[0]
    for axis, n in enumerate(sides):  # half a voxel from the ends, evenly, and alike along the others
        u = whole[axis].movedim(axis, 0).flatten(1)
        assert bool((u == u[:, :1]).all()) and float(u[0, 0]) == pytest.approx(-1 + 1 / n)
        assert torch.allclose(u.diff(dim=0), torch.tensor(2 / n), atol=1e-6)
        assert torch.allclose(u[:, 0], -u[:, 0].flip(0), atol=1e-6)
    seen = 0
    for split in (data.train, data.val):
        if not len(split):
            continue
        _, labels = split.batch(torch.arange(len(split)))
        assert labels[BESIDE].shape == (len(split), 3, *data.modality.shape[1:])
        for there, place in zip(labels[BESIDE], split.x.places.tolist(), strict=True):
            first = [max(0, s) for s in place[:3]]
            last = [min(n, s + 8) for s, n in zip(place, sides, strict=False)]
            mine = there[
                (slice(None), *(slice(a - s, b - s) for a, b, s in zip(first, last, place, strict=False)))
            ]
            part = whole[(slice(None), *(slice(a, b) for a, b in zip(first, last, strict=True)))]
            assert torch.equal(mine, part)
            seen += 1
    assert seen == data.survey.items
    assert torch.equal(data.modality.sized(sides).beside_whole, whole[None])


def test_a_scan_is_read_as_it_is_and_not_shrunk(tmp_path: Path) -> None:
    scan = noise(0, 20, 30, 25)
    path = nifti(tmp_path / "a.nii.gz", scan)
    modality = read(tmp_path, size=8).modality
    assert modality.own_sides(path) == (20, 30, 25) == modality.own_sides(tmp_path)
    whole = modality.sized((20, 30, 25))
    assert np.array_equal(whole.decode(whole.encode([whole.read(path)]))[0].values, scan)
    ((_, values, place),) = stored(read(path, whole))
    assert np.array_equal(values, scan) and place == [0, 0, 0, 20, 30, 25]
    middle = modality.decode(modality.encode([modality.read(path)]))[0].values
    assert np.array_equal(middle, scan[6:14, 11:19, 8:16])
    nifti(tmp_path / "b.nii.gz", noise(1, 20, 30, 24))
    with pytest.raises(UserError, match="scans of 2 sizes"):
        modality.own_sides(tmp_path)
    assert MedicalModality(MedicalForm((8, 8, 8), 0, 1)).own_sides(path) is None


def test_spacing_that_is_asked_for_comes_first(tmp_path: Path) -> None:
    people(tmp_path, (10, 20, 20), 10)
    data = read(tmp_path, size=8, spacing=1.0)
    assert data.modality.form.spacing == pytest.approx((1.0, 1.0, 1.0), rel=0.02)
    assert data.modality.form.scan == (30, 10, 15)
    assert {tuple(place[3:]) for _, _, place in stored(data)} == {(30, 10, 15)}
    nibabel.save(nibabel.Nifti1Image(noise(99, 20, 20, 10), None), tmp_path / "sub-99.nii.gz")
    assert read(tmp_path, size=8, spacing=1.0).survey.skipped[0][1].startswith("it does not say how large")


def test_nobody_gets_patches_who_does_not_ask(tmp_path: Path) -> None:
    for i in range(32):
        nifti(tmp_path / f"sub-{i:02d}.nii.gz", noise(i, 8, 8, 8))
    auto = load(tmp_path)
    assert auto.modality.resolved() == {"volume": "volume"} and not hasattr(auto.train.x, "places")
    scan = nifti(tmp_path / "large" / "a.nii.gz", noise(0, 8, 70, 70))
    told = note(load(scan, options={"medical": {"volume": "volume"}}), "size")[1]
    assert told.endswith("data.volume=patches shrinks nothing")
    small = nifti(tmp_path / "less" / "a.nii.gz", noise(0, 8, 40, 36))
    assert "patches" not in note(load(small, options={"medical": {"volume": "volume"}}), "size")[1]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"size": (8, 8)}, "volumes have three sides"),
        ({"size": (8, 0, 8)}, "of 1 or more"),
        ({"volume": "cubes"}, "choose one of auto, slices, volume, patches"),
        ({"volume": "slices", "size": (8, 8, 8)}, "slices have two sides"),
    ],
)
def test_what_cannot_be_is_a_sentence(tmp_path: Path, options: Any, says: str) -> None:
    nifti(tmp_path / "a.nii.gz", noise(0, 9, 14, 21))
    with pytest.raises(UserError, match=says):
        read(tmp_path, **options)


def test_pictures_have_two_sides(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.random.default_rng(0).integers(0, 255, (9, 8, 8)).astype(np.uint8))
    with pytest.raises(UserError, match="data.size has 3 numbers, and pictures have two sides"):
        load(tmp_path, size=(8, 8, 8))


def test_nothing_of_a_person_is_said_of_patches(tmp_path: Path) -> None:
    for i in range(6):
        patient(tmp_path / "in", f"{i}", i, 12)
    data = read(tmp_path / "in", size=8)
    said = json.dumps(data.survey.to_json() | {"source": ""}) + json.dumps(data.modality.spec())
    said += repr((data.modality, data.columns, data.train.names, data.val.names))
    assert not [secret for secret in SECRETS if secret in said]


def test_real_scans_keep_every_voxel(shared_data: Any) -> None:
    data = read(shared_data("dicom_head_mri") / "dcm", span="0..100000")
    scans = stored(data)
    assert data.modality.shape == (1, 24, 32, 32) and data.modality.form.scan == (24, 384, 274)
    whole = data.modality.sized(data.modality.form.scan)
    ((_, scan, _),) = stored(read(shared_data("dicom_head_mri") / "dcm", whole))
    seen = np.zeros(scan.shape, bool)
    for _, values, (z, y, x, *_) in scans:
        place = (slice(z, z + 24), slice(y, y + 32), slice(x, x + 32))
        assert np.array_equal(values, scan[place])
        seen[place] = True
    assert seen.mean() > 0.9 and scan[~seen].max() == 0, "only air is left out"


def test_a_scan_thinner_than_a_patch_lies_in_its_middle(tmp_path: Path) -> None:
    scan = noise(0, 4, 12, 12)
    nifti(tmp_path / "a.nii.gz", scan)
    data = read(tmp_path)
    _, values, place = stored(data)[0]
    assert values.shape == (8, 12, 12) and place == [-2, 0, 0, 4, 12, 12]
    assert np.array_equal(values[2:6], scan) and (values[:2] == data.modality.form.low).all()
    raw = Scan(scan.astype(np.float32), affine=axes_affine("SPL", SPACING, scan.shape), whole=True)
    assert np.array_equal(data.modality.fit(raw), values)
