"""Medical images: units, places, order, patients, and nobody's name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import imagecodecs
import nibabel
import numpy as np
import pytest
import torch
from pydicom import uid
from pydicom.encaps import encapsulate

from kuosan.errors import UserError
from kuosan.modalities import Dataset, MedicalForm, MedicalModality, Scan, Unreadable, load
from kuosan.modalities.medical_dicom import read_frames, read_scan
from kuosan.modalities.medical_nifti import read_volume, write_volume
from kuosan.modalities.medical_scan import axes_affine, codes_of
from tests.modalities.medical import NAME, dicom, patient, phantom, read

FORM = MedicalForm((16, 16), -1024.0, 1000.0, "HU", "CT", True, (0.5, 0.75), "SPL")


def states(data: Dataset) -> torch.Tensor:
    return torch.cat([s.batch(torch.arange(len(s)))[0] for s in (data.train, data.val) if len(s)])


def scan(path: Path) -> Scan:
    return read_scan(read_frames(path)[0])


def note(data: Dataset, what: str) -> tuple[str, str]:
    return next((value, why) for name, value, why in data.survey.notes if name == what)


def test_a_ct_is_in_hounsfield_units(tmp_path: Path) -> None:
    stored = np.arange(16, dtype=np.uint16).reshape(4, 4)
    dicom(tmp_path / "a.dcm", stored, slope=2.0, intercept=-1000.0)
    found = scan(tmp_path / "a.dcm")
    assert found.unit == "HU" and np.array_equal(found.values, 2.0 * stored - 1000)


@pytest.mark.parametrize(
    "tags",
    [
        {"kind": "MR"},
        {"slope": None},
        {"RescaleType": "US"},
        {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]},
    ],
)
def test_nothing_else_is(tmp_path: Path, tags: dict[str, Any]) -> None:
    dicom(tmp_path / "a.dcm", np.ones((4, 4), np.int16), **tags)
    assert scan(tmp_path / "a.dcm").unit == "raw"


def test_places_are_those_of_the_standard(tmp_path: Path) -> None:
    dicom(tmp_path / "a.dcm", np.ones((4, 4), np.int16), position=(10.0, -20.0, 30.0), spacing=(0.5, 0.75))
    found = scan(tmp_path / "a.dcm")
    assert found.affine is not None and found.spacing == (0.5, 0.75)
    row, column = 3, 2
    left_back_head = np.array([10.0 + 0.75 * column, -20.0 + 0.5 * row, 30.0])
    assert np.allclose(found.affine @ [0, row, column, 1], [*left_back_head * [-1, -1, 1], 1])
    assert codes_of(found.affine) == ("S", "P", "L")


def test_slices_stand_in_the_order_of_their_places(tmp_path: Path) -> None:
    stored = np.stack([np.full((8, 8), 10 * k, np.int16) + np.eye(8, dtype=np.int16) for k in range(9)])
    for k, order in enumerate(np.random.default_rng(0).permutation(9)):
        dicom(tmp_path / f"{order}x.dcm", stored[k], position=(0.0, 0.0, 3.0 * k), number=int(order))
    data = load(tmp_path, options={"medical": {"volume": "volume"}})
    (raw,) = data.modality.decode(states(data))
    assert raw.values.shape[0] >= 9 and raw.spacing[0] == pytest.approx(3.0)
    middle = raw.values[:, 1, 0] if raw.values.shape[1] == 8 else raw.values.mean((1, 2))
    inside = middle[(raw.values.shape[0] - 9) // 2 :][:9]
    assert np.array_equal(inside, 10.0 * np.arange(9) - 1024)


def test_monochrome1_keeps_its_values_and_is_shown_inverted(tmp_path: Path) -> None:
    stored = np.tile(np.arange(16, dtype=np.uint16) * 200, (16, 1))
    for i in range(3):
        dicom(
            tmp_path / f"{i}.dcm", stored + i, kind="DX", slope=None, PhotometricInterpretation="MONOCHROME1"
        )
    data = load(tmp_path)
    raws = data.modality.decode(states(data))
    assert np.array_equal(np.sort([r.values.min() for r in raws]), [0.0, 1.0, 2.0])
    grey = np.asarray(data.modality.show(raws[:1], scale=1))[..., 0]
    assert grey[8, 3] > 200 > 50 > grey[8, -4]


def test_a_minority_of_the_other_polarity_is_turned(tmp_path: Path) -> None:
    stored = np.tile(np.arange(16, dtype=np.uint8) * 17, (16, 1))
    options: dict[str, Any] = {"kind": "DX", "slope": None}
    for i in range(3):
        dicom(tmp_path / f"{i}.dcm", np.roll(stored, i, 0) + np.uint8(0), patient=str(i), **options)
    dicom(tmp_path / "3.dcm", 255 - stored, patient="3", PhotometricInterpretation="MONOCHROME1", **options)
    data = load(tmp_path)
    assert note(data, "turned values")[0].startswith("1 of 4")
    assert len(torch.unique(states(data), dim=0)) == 1  # all are the same picture


@pytest.mark.parametrize("syntax", ["RLELossless", "JPEGLosslessSV1", "JPEGLSLossless", "JPEG2000Lossless"])
def test_compressed_pixels_come_back_exactly(tmp_path: Path, syntax: str) -> None:
    stored = np.random.default_rng(0).integers(0, 4000, (16, 24)).astype(np.uint16)
    ds = dicom(tmp_path / "a.dcm", stored, save=False)
    if syntax == "RLELossless":
        ds.compress(uid.RLELossless)
    else:
        encode = {
            "JPEGLosslessSV1": lambda x: imagecodecs.ljpeg_encode(x, bitspersample=16),
            "JPEGLSLossless": imagecodecs.jpegls_encode,
            "JPEG2000Lossless": lambda x: imagecodecs.jpeg2k_encode(x, level=0, codecformat="j2k"),
        }[syntax]
        ds.PixelData = encapsulate([encode(stored)])
        ds["PixelData"].VR = "OB"
        ds.file_meta.TransferSyntaxUID = getattr(uid, syntax)
    ds.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    assert np.array_equal(scan(tmp_path / "a.dcm").values, stored.astype(np.float32) - 1024)


def test_frames_of_one_file_are_slices(tmp_path: Path) -> None:
    stored = phantom(1, 5)
    dicom(tmp_path / "many.dcm", stored, position=None, spacing=None)
    frames = read_frames(tmp_path / "many.dcm")
    assert len(frames) == 5
    assert all(np.array_equal(read_scan(f).values, v - 1024.0) for f, v in zip(frames, stored, strict=True))


def test_frames_have_places_and_units_of_their_own(tmp_path: Path) -> None:
    from pydicom.dataset import Dataset as Group

    def group(**values: Any) -> Group:
        inner = Group()
        for name, value in values.items():
            setattr(inner, name, value)
        return inner

    shared = Group()
    shared.PixelMeasuresSequence = [group(PixelSpacing=[0.5, 0.5], SliceThickness=3.0)]
    shared.PlaneOrientationSequence = [group(ImageOrientationPatient=[1, 0, 0, 0, 1, 0])]
    frames = []
    for k in range(3):
        one = Group()
        one.PlanePositionSequence = [group(ImagePositionPatient=[0, 0, 3.0 * (2 - k)])]
        one.PixelValueTransformationSequence = [group(RescaleSlope=1.0 + k, RescaleIntercept=-100.0)]
        frames.append(one)
    dicom(
        tmp_path / "a.dcm", np.ones((3, 8, 8), np.int16), position=None, spacing=None, slope=None,
        SharedFunctionalGroupsSequence=[shared], PerFrameFunctionalGroupsSequence=frames,
    )  # fmt: skip
    found = read_frames(tmp_path / "a.dcm")
    assert [f.place for f in found] == [6.0, 3.0, 0.0] and {f.unit for f in found} == {"HU"}
    assert [float(read_scan(f).values[0, 0]) for f in found] == [-99.0, -98.0, -97.0]


def broken(folder: Path) -> dict[str, str]:
    """Files that cannot be read, by name, and what must be said of each."""
    ones = np.ones((8, 8), np.int16)
    ds = dicom(folder / "no pixels.dcm", ones, save=False)
    del ds.PixelData
    ds.save_as(folder / "no pixels.dcm", enforce_file_format=True)
    ds = dicom(folder / "video.dcm", ones, save=False)
    ds.file_meta.TransferSyntaxUID = uid.MPEG2MPML
    ds.PixelData = encapsulate([b"1234"])
    ds["PixelData"].VR = "OB"
    ds.save_as(folder / "video.dcm", enforce_file_format=True)
    ds = dicom(folder / "private.dcm", ones, save=False)
    ds.file_meta.TransferSyntaxUID = "1.2.999.1"
    ds.save_as(folder / "private.dcm", implicit_vr=False, little_endian=True, enforce_file_format=True)
    dicom(folder / "colour.dcm", ones, PhotometricInterpretation="RGB")
    dicom(folder / "no size.dcm", ones, Rows=0)
    dicom(folder / "whole.dcm", np.ones((64, 64), np.int16))
    (folder / "truncated.dcm").write_bytes((folder / "whole.dcm").read_bytes()[:-3000])
    (folder / "whole.dcm").unlink()
    (folder / "empty.dcm").write_bytes(b"")
    nan = nibabel.Nifti1Image(np.full((4, 4, 4), np.nan, np.float32), np.eye(4))
    nibabel.save(nan, folder / "nan.nii")
    nibabel.save(nibabel.Nifti1Image(np.ones((4, 4, 4), np.float32), np.eye(4)), folder / "cut.nii")
    (folder / "cut.nii").write_bytes((folder / "cut.nii").read_bytes()[:400])
    nibabel.save(nibabel.Nifti1Image(np.zeros((4, 0, 4), np.float32), np.eye(4)), folder / "flat.nii")
    return {
        "no pixels.dcm": "without pixels", "video.dcm": "MPEG2", "private.dcm": "1.2.999.1", "colour.dcm": "RGB",
        "no size.dcm": "no size", "truncated.dcm": "truncated", "empty.dcm": "empty", "nan.nii": "NaN",
        "cut.nii": "truncated|damaged", "flat.nii": "no size",
    }  # fmt: skip


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    modality = MedicalModality(FORM)
    for name, reason in broken(tmp_path).items():
        with pytest.raises(Unreadable, match=reason):
            modality.read(tmp_path / name)


def test_and_skipped_by_number(tmp_path: Path) -> None:
    dicom(tmp_path / "good" / "0.dcm", np.stack([phantom(i, 1)[0] for i in range(9)]))
    for i in range(1, 100):
        (tmp_path / "good" / f"{i}.dcm").write_bytes((tmp_path / "good" / "0.dcm").read_bytes())
    (tmp_path / "bad").mkdir()
    reasons = broken(tmp_path / "bad")
    data = load(tmp_path)
    beside = sum(name.endswith(".nii") and name != "flat.nii" for name in reasons)  # not even looked into
    assert len(data.survey.skipped) == len(reasons) - beside and data.survey.items == 900
    assert all(name.startswith("file ") for name, _ in data.survey.skipped)
    assert sum("beside" in reason for _, reason in data.survey.left_alone) == beside


def test_nan_is_the_smallest_value(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(5, 90, (8, 8, 8)).astype(np.float32)
    values[0] = np.nan
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), tmp_path / "a.nii.gz")
    data = load(tmp_path, options={"medical": {"volume": "volume"}})
    assert note(data, "NaN")[0] == "1 scans"
    assert bool(torch.isfinite(states(data)).all()) and float(states(data).min()) == -1


@pytest.mark.parametrize(("moments", "items"), [("first", 8), ("all", 24)])
def test_volumes_in_time(tmp_path: Path, moments: str, items: int) -> None:
    values = np.random.default_rng(0).integers(0, 90, (8, 8, 8, 3)).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), tmp_path / "a.nii.gz")
    data = load(tmp_path, options={"medical": {"moments": moments}})
    assert data.survey.items == items and note(data, "volumes in time")[0] in ("the first", "all")


def test_nifti_comes_upright_whatever_its_axes(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    values = rng.integers(0, 90, (4, 5, 6)).astype(np.int16)
    image = nibabel.Nifti1Image(values, np.diag([2.0, 3.0, 4.0, 1.0]))
    nibabel.save(image, tmp_path / "a.nii.gz")
    for turn in ((2, 0, 1), (1, 2, 0), (1, 0, 2)):
        ornt = nibabel.orientations.axcodes2ornt(tuple(np.array(["L", "A", "I"])[list(turn)]))
        nibabel.save(image.as_reoriented(nibabel.orientations.ornt_transform(
            nibabel.io_orientation(image.affine), ornt)), tmp_path / "b.nii.gz")  # fmt: skip
        one, two = (read_volume(tmp_path / f"{k}.nii.gz") for k in "ab")
        assert one.same(two) and np.allclose(one.affine, two.affine)  # type: ignore[arg-type]
    assert one.spacing == (4.0, 3.0, 2.0)
    assert np.array_equal(one.values, values[::-1, ::-1].transpose(2, 1, 0))


def test_nifti_keeps_affine_and_values(tmp_path: Path) -> None:
    affine = axes_affine("SPL", (2.0, 0.5, 0.75), (3, 4, 5))
    raw = Scan(np.random.default_rng(0).random((3, 4, 5)).astype(np.float32), "relative", "MR", affine)
    write_volume(raw, tmp_path / "a.nii.gz")
    back = read_volume(tmp_path / "a.nii.gz")
    assert (
        back.same(raw) and np.allclose(back.affine, affine) and (back.kind, back.unit) == ("MR", "relative")
    )  # type: ignore[arg-type]
    image = nibabel.load(tmp_path / "a.nii.gz")
    assert image.shape == (5, 4, 3) and np.allclose(image.affine @ [0, 0, 0, 1], affine @ [0, 0, 0, 1])
    assert b"SYNTHETIC" in image.header["descrip"].tobytes()


def test_slices_are_cut_along_the_planes_of_the_scan(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 90, (5, 16, 16)).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(values, np.diag([6.0, 1.0, 1.0, 1.0])), tmp_path / "a.nii.gz")
    data = load(tmp_path)
    assert data.survey.modes == {"OT sagittal": 5} and data.modality.shape == (1, 16, 16)


def test_whole_patients_are_held_out(tmp_path: Path) -> None:
    for i in range(20):
        patient(tmp_path, f"{i}", i, 3)
    data = load(tmp_path)
    sides = [set(s.groups) for s in (data.train, data.val)]
    assert len(sides[0]) == 18 and len(sides[1]) == 2 and not sides[0] & sides[1] and len(data.val) == 6
    assert data.survey.totals == {"patients": 20, "series": 20}


def test_of_one_patient_blocks_of_slices_are(tmp_path: Path) -> None:
    patient(tmp_path, "0", 0, 40, side=8)
    data = load(tmp_path)
    held = sorted(int(name.split()[-1]) for name in data.val.names)
    assert len(held) == 4 and held[1] == held[0] + 1 and held[3] == held[2] + 1
    assert note(data, "patients")[0] == "1"


def test_classes_are_those_that_patients_share(tmp_path: Path) -> None:
    for i in range(20):
        patient(tmp_path / ("sick" if i % 2 else "well"), f"{i}", i, 3)
    patient(tmp_path / f"{NAME} her own folder", "x", 99, 3)
    data = load(tmp_path)
    assert data.columns == {"class": ("sick", "well")}
    assert note(data, "values of class")[0] == "1 of 3 hidden"


def test_mixed_machines_are_told_apart(tmp_path: Path) -> None:
    for i in range(5):
        patient(tmp_path, f"{i}", i, 4)
    patient(tmp_path, "m", 9, 4, kind="MR")
    data = load(tmp_path)
    assert data.modality.form.unit == "HU" and len(data.train) + len(data.val) == 20
    assert any("MR" in reason for _, reason in data.survey.left_alone)


def test_a_model_of_one_unit_takes_no_other(tmp_path: Path) -> None:
    patient(tmp_path, "m", 9, 4, kind="MR")
    with pytest.raises(UserError, match="No scan .* raw units"):
        load(tmp_path, like=MedicalModality(FORM))


def test_files_without_suffix_are_recognised(tmp_path: Path) -> None:
    for k in range(3):
        dicom(tmp_path / f"IM00{k}", phantom(0)[k], position=(0.0, 0.0, 2.0 * k))
        dicom(tmp_path / f"1.2.840.{k}", phantom(1)[k], position=(0.0, 0.0, 2.0 * k), series="1")
    data = load(tmp_path)
    assert data.modality.name == "medical" and data.survey.items == 6


def test_spacing_is_resampled_when_asked(tmp_path: Path) -> None:
    patient(tmp_path, "a", 0, 4, spacing=(0.5, 0.5))
    patient(tmp_path, "b", 1, 4, spacing=(1.0, 1.0))
    as_is, same = (load(tmp_path, options={"medical": {"spacing": s, "size": 16}}) for s in (None, 1.0))
    assert same.modality.form.spacing == (1.0, 1.0)
    bright = {
        name: int((x > 0).sum())
        for name, x in zip((*same.train.names, *same.val.names), states(same), strict=True)
    }
    assert set(as_is.modality.form.spacing) == {0.75}
    assert bright["patient 1, slice 3"] == pytest.approx(bright["patient 2, slice 3"] / 4, rel=0.25)


def test_values_outside_of_the_asked_span_are_clipped(tmp_path: Path) -> None:
    patient(tmp_path, "0", 0, 12)
    data = load(tmp_path, options={"medical": {"span": "-160..240"}})
    form, values = data.modality.form, data.modality.decode(states(data))
    assert (form.low, form.high) == (-160, 240) and min(v.values.min() for v in values) == -160
    assert "clipped" in note(data, "value range")[1]
    with pytest.raises(UserError, match="data.span"):
        load(tmp_path, options={"medical": {"span": "240..-160"}})


def test_brightness_is_relative_where_scans_have_no_common_one(tmp_path: Path) -> None:
    for i in range(6):
        scale = 10.0 if i % 2 else 1.0
        patient(tmp_path, f"{i}", i, 4, kind="MR", slope=scale, intercept=0.0)
    data = load(tmp_path)
    tops = [float(x.max()) for x in states(data)]
    assert data.modality.form.unit == "relative" and max(tops) - min(tops) < 0.1


def test_real_series_are_read_in_order(shared_data: Any) -> None:
    folder = shared_data("dicom_head_mri") / "dcm"
    data = load(folder)
    places = [f.place for path in sorted(folder.glob("*.dcm")) for f in read_frames(path)]
    assert len(data.train) + len(data.val) == len(places) == 24 and data.modality.form.kind == "MR"
    raw = read(sorted(folder.glob("*.dcm"))[0])
    assert np.array_equal(scan(sorted(folder.glob("*.dcm"))[0]).values, raw.pixel_array.astype(np.float32))


def test_real_volumes_agree_with_another_reader(shared_data: Any) -> None:
    for path in sorted(shared_data("nifti_small").glob("*.nii*")):
        found, image = read_volume(path), nibabel.as_closest_canonical(nibabel.load(path))
        there = np.asarray(image.dataobj)
        there = there[..., 0] if there.ndim == 4 else there
        assert np.array_equal(found.values, there[::-1, ::-1].transpose(2, 1, 0).astype(np.float32))
