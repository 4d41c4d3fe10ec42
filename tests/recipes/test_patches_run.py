"""A run over patches of scans: whole scans of any size are made of them, and a given scan keeps its resolution."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch

import kuosan
from kuosan.core.random import Seeds
from kuosan.core.shapes import BESIDE
from kuosan.errors import UserError
from kuosan.modalities.medical_patches import coordinates
from kuosan.recipes import beside
from kuosan.recipes.evaluate import data_of
from kuosan.recipes.inverse import items_of
from tests.cli.conftest import call
from tests.modalities.medical import read
from tests.modalities.test_medical_patches import SPACING, nifti
from tests.recipes import small

STEPS: dict[str, Any] = {"steps": 3, "solver": "ddim"}
FEW = ("--steps", 2, "--solver", "ddim")
SIDES = (9, 20, 17)


def scan(seed: int, sides: tuple[int, ...] = SIDES) -> np.ndarray:
    """Lighter from below to above, much darker to the left, with a little noise."""
    rng = np.random.default_rng(seed)
    z, _, x = np.meshgrid(*(np.linspace(0, 1, n) for n in sides), indexing="ij")
    return (200 * z + 400 * (1 - x) + rng.integers(1, 30, sides)).astype(np.int16)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("scans")
    for i in range(12):
        nifti(place / f"sub-{i:02d}.nii.gz", scan(i))
    return place


def trained(folder: Path, out: Path, volume: str, **leaves: Any) -> kuosan.Run:
    words = {"data__volume": volume, "data__size": 8, "training__lr": 5e-3} | leaves
    session = small.session(folder, out, **words)
    for _ in session.steps():
        pass
    session.write_weights("now")
    return kuosan.load(out)


@pytest.fixture(scope="module")
def run(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> kuosan.Run:
    return trained(folder, tmp_path_factory.mktemp("patches") / "run", "patches", budget="150steps")


@pytest.fixture(scope="module")
def volumes(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> kuosan.Run:
    return trained(folder, tmp_path_factory.mktemp("volumes") / "run", "volume", budget="5steps")


def test_the_network_is_told_and_the_data_read_again(run: kuosan.Run) -> None:
    assert run.facts.network["beside"] == 3 and run.shape == (1, 8, 8, 8)
    assert run.facts.recipe.data.volume == "patches" and run.modality.resolved() == {"volume": "patches"}
    data = data_of(run)
    assert data.modality.spec() == run.modality.spec() and data.survey.items > 12 * 8


def test_a_sample_lies_where_a_patch_of_training_lies(run: kuosan.Run) -> None:
    places = {tuple(place) for place in data_of(run).train.x.places.tolist()}
    kept = beside.kept(run.path)
    assert {tuple(place) for place in kept.tolist()} <= places
    cond = run.conditions(0, range(40))[BESIDE]
    known = [coordinates(torch.tensor([place]), (8, 8, 8))[0] for place in places]
    assert all(any(torch.equal(one, other) for other in known) for one in cond)
    assert len(torch.unique(cond.flatten(1), dim=0)) > 5
    assert torch.equal(run.conditions(0, range(3, 5))[BESIDE], cond[3:5])


def test_it_hears_where_a_patch_lies(run: kuosan.Run) -> None:
    """Of data that are darker to the left, so are patches from there, and whole scans made of patches."""
    known = beside.kept(run.path)
    x = run.sample(64, **STEPS).x.mean((1, 2, 3, 4))
    rows = (Seeds.of(0, range(64)).fold("beside").uniforms() * len(known)).long()
    place = coordinates(known[rows], (8, 8, 8)).mean((2, 3, 4))
    assert float(torch.corrcoef(torch.stack([x, place[:, 2]]))[0, 1]) < -0.8
    whole = run.sample(2, steering=run.steer(size="17x20x17"), **STEPS).x.mean(0)[0]
    for axis, sign in ((0, 1), (2, -1)):
        along = whole.movedim(axis, 0).flatten(1).mean(1)
        assert sign * float(torch.corrcoef(torch.stack([along, torch.arange(17.0)]))[0, 1]) > 0.9


@pytest.mark.parametrize("size", [SIDES, (8, 33, 9), (8, 8, 8)])
def test_a_whole_scan_is_told_where_each_voxel_lies(run: kuosan.Run, size: tuple[int, int, int]) -> None:
    steering = run.steer(size="x".join(map(str, size)))
    assert steering is not None and steering.sides == size == steering.modality.shape[1:]
    found = run.sample(3, steering=steering, **STEPS)
    assert found.x.shape == (3, 1, *size) and bool(found.x.isfinite().all())
    if steering.larger:
        wanted = coordinates(torch.tensor([[0, 0, 0, *size]]), size)
        cond = steering.conditions(range(2), run.conditions(0, range(2)), ())
        assert torch.equal(cond[BESIDE], wanted.expand(2, -1, -1, -1, -1))
    alone = run.sample(1, first=1, steering=steering, **STEPS)
    assert torch.allclose(alone.x, found.x[1:2], atol=1e-5)


def test_windows_that_go_on_from_each_other_are_told_too(run: kuosan.Run) -> None:
    found = run.sample(1, steering=run.steer(size="17x8x8", stitch="continue"), **STEPS).x[0, 0]
    assert float(found[-4:].mean()) > float(found[:4].mean())


def test_files_of_larger_scans_have_the_shape_and_the_place(run: kuosan.Run, tmp_path: Path) -> None:
    size = (11, 20, 33)
    words = (
        "sample",
        run.path,
        "-n",
        1,
        *FEW,
        "--size",
        "11x20x33",
        "--format",
        "dcm",
        "--out",
        tmp_path / "s",
    )
    data = call(*words, "--json").json
    assert data["sides"] == list(size)
    image = nibabel.load(tmp_path / "s" / "00000.nii.gz")
    assert image.shape == size[::-1] and np.allclose(image.header.get_zooms(), SPACING[::-1])
    middle = image.affine @ [*((np.array(image.shape) - 1) / 2), 1]
    assert np.allclose(middle, [0, 0, 0, 1], atol=1e-4)
    slices = [read(path) for path in sorted((tmp_path / "s" / "00000").iterdir())]
    assert len(slices) == 11 and {(s.Rows, s.Columns) for s in slices} == {(20, 33)}
    assert all(s.SliceThickness == 3.0 and list(map(float, s.PixelSpacing)) == [0.5, 0.75] for s in slices)
    heights = [float(s.ImagePositionPatient[2]) for s in slices]
    assert np.allclose(heights, 3.0 * (np.arange(11) - 5))
    back = run.modality.sized(size)
    one, two = (back.read(tmp_path / "s" / name) for name in ("00000.nii.gz", "00000"))
    assert np.array_equal(one.values, two.values)


@pytest.mark.parametrize("size", [None, "9x20x17", "11x20x20"])
@pytest.mark.parametrize(("keep", "kept"), [
    (["depth:0-50%"], (slice(0, 4), slice(None), slice(None))),
    (["width:0-6mm"], (slice(None), slice(None), slice(0, 8))),
    (["box:2-6,0-50%,last"], (slice(2, 7), slice(0, 10), slice(-1, None))),
])  # fmt: skip
def test_a_given_scan_comes_back_exactly_where_it_is_kept(
    run: kuosan.Run, tmp_path: Path, size: str | None, keep: list[str], kept: tuple[slice, ...]
) -> None:
    values = scan(50)
    file = nifti(tmp_path / "a.nii.gz", values)
    steering = run.steer(given=file, keep=keep, **({"size": size} if size else {}))
    assert steering is not None
    sides = tuple(map(int, size.split("x"))) if size else SIDES
    if sides[0] == 11:  # the scan in the middle, and of more sides as much is kept
        kept = {4: (slice(0, 6), *kept[1:])}.get(kept[0].stop, kept)
    found = run.sample(2, steering=steering, **STEPS).raws()
    form = run.modality.form
    wanted = np.full(sides, form.low, np.float32)
    put = tuple(slice((n - m) // 2, (n - m) // 2 + m) for n, m in zip(sides, SIDES, strict=True))
    wanted[put] = np.clip(values, form.low, form.high)
    mask = steering.given.mask[0, 0].numpy()  # type: ignore[union-attr]
    assert mask.shape == sides
    if sides == SIDES:
        other = np.zeros(sides, bool)
        other[kept] = True
        assert np.array_equal(mask, other)
    for raw in found:
        assert raw.values.shape == sides and np.array_equal(raw.values[mask], wanted[mask])
        assert not np.array_equal(raw.values, wanted)


def test_a_given_scan_lies_in_the_middle_of_a_larger_one(run: kuosan.Run, tmp_path: Path) -> None:
    values = scan(50)
    file = nifti(tmp_path / "a.nii.gz", values)
    steering = run.steer(given=file, size="12x20x21")
    found = run.sample(1, steering=steering, **STEPS).raws()[0].values
    form = run.modality.form
    assert np.array_equal(found[1:10, :, 2:19], np.clip(values, form.low, form.high))
    with pytest.raises(UserError, match="nothing is left"):
        run.steer(given=file)


def test_a_varied_scan_is_as_large_as_it_is(run: kuosan.Run, tmp_path: Path) -> None:
    values = scan(50)
    file = nifti(tmp_path / "a.nii.gz", values)
    form = run.modality.form
    found = run.sample(1, steering=run.steer(vary=file, strength=0), **STEPS).raws()[0]
    assert np.array_equal(found.values, np.clip(values, form.low, form.high))
    assert found.spacing == pytest.approx(SPACING)
    thin = nifti(tmp_path / "thin.nii.gz", scan(51, (5, 20, 17)))
    found = run.sample(1, steering=run.steer(vary=thin, strength=0), **STEPS).raws()[0]
    assert found.values.shape == (8, 20, 17)
    assert np.array_equal(found.values[1:6], np.clip(scan(51, (5, 20, 17)), form.low, form.high))


def test_a_scan_that_is_larger_than_asked_is_several(run: kuosan.Run, tmp_path: Path) -> None:
    file = nifti(tmp_path / "a.nii.gz", scan(50))
    steering = run.steer(given=file, keep=["depth:0-3"], size="9x12x17")
    assert steering is not None and steering.count == 2 and steering.modality.shape == (1, 9, 12, 17)
    assert steering.cond is not None
    whole = coordinates(torch.tensor([[0, 0, 0, *SIDES]]), SIDES)[0]
    cond = steering.conditions(range(2), run.conditions(0, range(2)), ())[BESIDE]
    assert torch.equal(cond[0], whole[:, :, :12]) and torch.equal(cond[1], whole[:, :, -12:])


def test_volumes_can_be_larger_too(volumes: kuosan.Run, tmp_path: Path) -> None:
    assert not volumes.facts.network.get("beside")
    found = volumes.sample(2, steering=volumes.steer(size="9x8x13"), **STEPS)
    assert found.x.shape == (2, 1, 9, 8, 13)
    assert volumes.steer(size="12").modality.shape == (1, 12, 12, 12)  # type: ignore[union-attr]
    data = call(
        "sample", volumes.path, "-n", 1, *FEW, "--size", "9x8x13", "--out", tmp_path / "s", "--json"
    ).json
    image = nibabel.load(data["files"][0])
    assert image.shape == (13, 8, 9)
    assert np.allclose(image.header.get_zooms(), volumes.modality.form.spacing[::-1])


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--size", "20x20"), "give depth, height and width, as in 33x128x128, or one number"),
        (("--size", "9x20x20x20"), "is no size"),
        (("--size", "0x20x20"), "is no size"),
        (("--size", "4x20x20"), "smaller than the 8×8×8"),
        (("--size", "6"), "smaller than the 8×8×8"),
        (("--length", "4s"), "use --size"),
        (("--given", "FOLDER", "--keep", "depth:0-50%"), "scans of 2 sizes"),
        (("--given", "FOLDER", "--size", "12x24x24"), "scans of 2 sizes"),
    ],
)
def test_what_cannot_be_is_a_sentence(
    run: kuosan.Run, tmp_path: Path, words: tuple[str, ...], says: str
) -> None:
    nifti(tmp_path / "in" / "sub-1.nii.gz", scan(1))
    nifti(tmp_path / "in" / "sub-2.nii.gz", scan(2, (9, 20, 18)))
    words = tuple(str(tmp_path / "in") if w == "FOLDER" else w for w in words)
    result = call("sample", run.path, *words, "--out", tmp_path / "none")
    assert result.status == 2 and says in result.err and not (tmp_path / "none").exists()
    assert len(result.err.strip().splitlines()) == 1


def test_other_methods_know_no_places(folder: Path, tmp_path: Path) -> None:
    result = call("compare", folder, "--set", "data.volume=patches", "--out", tmp_path / "c")
    assert result.status == 2 and "data.volume=patches away" in result.err


def test_anomalies_encoding_and_measures_work_on_patches(
    run: kuosan.Run, folder: Path, tmp_path: Path
) -> None:
    file = nifti(tmp_path / "sub-99.nii.gz", scan(60))
    words = ("anomaly", run.path, file, "--draws", 1, "--steps", 2, "--out", tmp_path / "an", "--json")
    found = call(*words)
    assert found.status == 0, found.err
    assert len(list((tmp_path / "an").glob("*.nii.gz"))) == 2 * 3 * 3
    noise = run.encode(file, 3, steps=20)
    assert torch.allclose(run.decode(noise).x, items_of(run, file, 3, None).x, atol=0.02)
    said = call("inspect", run.path)
    assert said.status == 0 and "9×20×17" in said.out
    result = call("evaluate", run.path, "-n", 24)
    assert result.status == 0, result.err
