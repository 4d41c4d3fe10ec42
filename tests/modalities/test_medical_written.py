"""Laws of written medical images: marked as synthetic, with nothing of a person, read back elsewhere."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch

from kuosan.errors import UserError
from kuosan.modalities import Dataset, MedicalForm, MedicalModality, Scan, load
from kuosan.modalities.medical_draw import planes
from kuosan.modalities.medical_series import NIFTI
from tests.modalities.medical import NAME, SECRETS, patient, read

FORM = MedicalForm((16, 16), -1024.0, 1000.0, "HU", "CT", True, (0.5, 0.75), "SPL")


def states(data: Dataset) -> torch.Tensor:
    return torch.cat([s.batch(torch.arange(len(s)))[0] for s in (data.train, data.val) if len(s)])


@pytest.mark.parametrize("kind", ["CT", "MR", "OT"])
@pytest.mark.parametrize("whole", [True, False])
def test_dicom_says_that_it_is_synthetic(tmp_path: Path, kind: str, whole: bool) -> None:
    form = MedicalForm((6, 5), -20.0, 300.0, "raw", kind, whole, (0.5, 0.75), "SPL", model="abc")
    values = np.random.default_rng(0).uniform(-20, 300, (6, 5)).astype(np.float32)
    raw = MedicalModality(form).decode(MedicalModality(form).encode([Scan(values, whole=whole)]))[0]
    modality = MedicalModality(form)
    paths = [modality.write(raw, tmp_path / f"0000{i}") for i in range(2)]
    one, two = (read(path) for path in paths)
    assert paths[0].name == "00000.dcm" and paths[0].read_bytes() == paths[1].read_bytes()
    assert list(one.ImageType[:2]) == ["DERIVED", "SECONDARY"] and one.SyntheticData == "YES"
    assert one.PatientName == one.PatientID == "SYNTHETIC" and one.BurnedInAnnotation == "NO"
    assert "abc" in one.SeriesDescription and "research" in one.DerivationDescription
    assert (
        not (one.StudyDate or one.PatientBirthDate or one.StudyTime)
        and one.SOPInstanceUID == two.SOPInstanceUID
    )
    back = modality.read(paths[0])
    assert np.abs(back.values - raw.values).max() <= (0 if whole else 320 / 65535 / 2 * 1.01)
    assert back.spacing == pytest.approx((0.5, 0.75)) and np.allclose(back.affine, raw.affine)  # type: ignore[arg-type]


def test_volumes_are_written_as_nifti(tmp_path: Path) -> None:
    form = MedicalForm((4, 6, 5), 0.0, 300.0, "raw", "MR", True, (3.0, 0.5, 0.75), "SPL")
    modality = MedicalModality(form)
    raw = modality.decode(torch.zeros(1, 1, 4, 6, 5))[0]
    path = modality.write(raw, tmp_path / "00000")
    assert path.name == "00000.nii.gz" and path.name.endswith(NIFTI)
    assert np.allclose(np.sort(nibabel.load(path).header.get_zooms()), [0.5, 0.75, 3.0])
    assert modality.read(path).same(raw) and modality.axes == ("depth", "height", "width")
    with pytest.raises(UserError, match="nii.gz"):
        modality.write(raw, tmp_path / "a.tif")


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("codes", ["SPL", "IAR", ""])
def test_volumes_are_also_series_of_dicom_slices(tmp_path: Path, codes: str, whole: bool) -> None:
    """Each a study of its own, whose slices lie where the volume's affine says and come back as the volume."""
    spacing = (3.0, 0.5, 0.75) if codes else ()
    form = MedicalForm((11, 6, 5), -20.0, 300.0, "HU", "CT", whole, spacing, codes, model="abc")
    modality = MedicalModality(form)
    x = torch.rand(2, 1, 11, 6, 5, generator=torch.Generator().manual_seed(0)) * 2 - 1
    raws = modality.decode(x)
    paths = [modality.write(raw, tmp_path / "out" / f"{i:05d}.dcm") for i, raw in enumerate(raws)]
    assert [path.name for path in paths] == ["00000", "00001"]
    sets = [[read(file) for file in sorted(path.iterdir())] for path in paths]
    for raw, slices in zip(raws, sets, strict=True):
        assert len(slices) == 11
        for i, one in enumerate(slices):
            assert one.InstanceNumber == i + 1 and one.SyntheticData == "YES" and one.PatientID == "SYNTHETIC"
            values = one.pixel_array * float(one.RescaleSlope) + float(one.RescaleIntercept)
            assert np.abs(values - raw.values[i]).max() <= (0 if whole else 320 / 65535 / 2 * 1.01)
            if codes:  # PS3.3 C.7.6.2.1.1, of the voxel in row 2 and column 4, in left, back and head
                right, down = np.array(one.ImageOrientationPatient, float).reshape(2, 3)
                rows, columns = map(float, one.PixelSpacing)
                place = np.array(one.ImagePositionPatient, float) + 4 * columns * right + 2 * rows * down
                assert raw.affine is not None
                assert np.allclose(place, (raw.affine @ [i, 2, 4, 1])[:3] * [-1, -1, 1])
                assert one.SliceThickness == 3.0
    for name, n in {
        "StudyInstanceUID": 1,
        "SeriesInstanceUID": 1,
        "FrameOfReferenceUID": 1,
        "SOPInstanceUID": 11,
    }.items():
        uids = [{str(one[name].value) for one in slices} for slices in sets]
        assert [len(found) for found in uids] == [n, n] and not uids[0] & uids[1]
    # The reader of series stacks them again, towards the same directions.
    bound = 1e-6 if whole else 2 / 65535 * 1.01
    for path, state in zip(paths, modality.encode(raws), strict=True):
        assert (modality.encode([modality.read(path)])[0] - state).abs().max() <= bound
    data = load(tmp_path / "out", like=modality)
    assert len(data.train) + len(data.val) == 2 and not data.survey.skipped
    again = states(data)
    for state in modality.encode(raws):
        assert (again - state).abs().amax((1, 2, 3, 4)).min() <= bound


def test_nothing_of_a_person_is_said(tmp_path: Path) -> None:
    """Of names, numbers, dates and identifiers nothing reaches a survey, a specification or a file."""
    for i in range(6):
        patient(tmp_path / "in" / f"{NAME}_{i}", f"{i}", i, 4)
    (tmp_path / "in" / f"{NAME}.log").write_text("notes on Erika", encoding="utf-8")
    (tmp_path / "in" / f"{NAME}_bad.dcm").write_bytes(b"Erika Mustermann")
    data = load(tmp_path / "in")
    said = json.dumps(data.survey.to_json() | {"source": ""}) + json.dumps(data.modality.spec())
    said += repr((data.modality, data.columns, data.train.names, data.val.names))
    assert not [secret for secret in SECRETS if secret in said]
    raws = data.modality.decode(states(data)[:3])
    for kind in data.modality.formats:
        for i, raw in enumerate(raws):
            content = data.modality.write(raw, tmp_path / f"{i}.{kind}").read_bytes()
            assert not [secret for secret in SECRETS if secret.encode() in content]


def test_volumes_are_seen_as_long_as_their_voxels_are() -> None:
    """The middle planes side by side, each in the middle of the height; thick slices are drawn several times."""
    values = np.random.default_rng(0).integers(1, 9, (3, 8, 5)).astype(np.float32)
    z, y, x = values[1], values[::-1, 4], values[::-1, :, 2]
    for spacing, times in ((None, 1), ((1.0, 1.0, 1.0), 1), ((4.2, 2.0, 2.0), 2), ((2.4, 2.0, 2.0), 1)):
        found = planes(values, spacing)
        y_, x_ = (part.repeat(times, 0) for part in (y, x))
        above = (8 - 3 * times) // 2
        inside = slice(above, above + 3 * times)
        assert found.shape == (8, 18) and np.array_equal(found[:, :5], z)
        assert np.array_equal(found[inside, 5:10], y_) and np.array_equal(found[inside, 10:], x_)
        assert (np.delete(found[:, 5:], np.r_[inside], 0) == values.min()).all()
    assert planes(values, (1.0, 1.0, 3.0)).shape == (8, 15 + 15 + 8)
