"""DICOM files of what a model made, which say so in every place that has a word for it.

ImageType is DERIVED\\SECONDARY, the patient SYNTHETIC, SyntheticData YES, ContentQualification RESEARCH, and the series
is named after the model. Every UID is new and is made of the model and the pixels alone, so that the same sample is the
same object; there is no date, and no other word of anybody's. A slice is a file; a volume is a folder with a file for
each of its slices, one series of a study and a frame of reference of its own.

Values are kept in 16 bits: as they are where they are whole numbers, and else in 65,535 steps of their range.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from kuosan.modalities.medical_dicom import SYNTHETIC
from kuosan.modalities.medical_form import MedicalForm
from kuosan.modalities.medical_scan import Scan, library

STEPS = 65_535
EMPTY = (
    "StudyDate", "StudyTime", "AccessionNumber", "ReferringPhysicianName", "PatientBirthDate", "PatientSex", "StudyID",
    "SeriesNumber", "AcquisitionNumber", "PositionReferenceIndicator",
)  # fmt: skip
_CLASSES = {"CT": "CTImageStorage", "MR": "MRImageStorage"}


def write_dicom(scan: Scan, path: Path, form: MedicalForm, remark: str) -> None:
    """One slice, or a volume as a folder of them, with its unit, its spacing and its place."""
    stored, scale = _stored(scan, form)
    pixels = hashlib.sha256(stored.tobytes()).hexdigest()
    if not form.volume:
        _slice(scan, stored, scale, form, remark, pixels).save_as(path, enforce_file_format=True)
        return
    path.mkdir(parents=True, exist_ok=True)
    for i, (part, values) in enumerate(zip(scan.slices(), stored, strict=True), 1):
        file = path / f"{i:0{len(str(len(stored)))}d}.dcm"
        _slice(part, values, scale, form, remark, pixels, i).save_as(file, enforce_file_format=True)


def _slice(
    scan: Scan,
    stored: Any,
    scale: tuple[float, float],
    form: MedicalForm,
    remark: str,
    pixels: str,
    number: int = 1,
) -> Any:
    """The data set of one slice, alone or with a number in the volume; ``pixels`` is the digest of the whole item."""
    pydicom = library("pydicom")
    uid = library("pydicom.uid")
    about = json.dumps(form.to_json(), sort_keys=True)
    study = (pixels,) if form.volume else ()  # slices of one model are one study
    kind = getattr(uid, _CLASSES.get(scan.kind, "SecondaryCaptureImageStorage"))

    def new(*of: str) -> Any:
        return uid.generate_uid(entropy_srcs=["kuosan", about, *of])

    ds = pydicom.Dataset()
    ds.file_meta = pydicom.dataset.FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID = kind
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID = new("instance", pixels, str(number))
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.ImageType = ["DERIVED", "SECONDARY"] + (
        ["AXIAL"] if scan.kind == "CT" else ["OTHER"] if scan.kind == "MR" else []
    )
    ds.SyntheticData, ds.ContentQualification, ds.BurnedInAnnotation = "YES", "RESEARCH", "NO"
    ds.PatientName = ds.PatientID = SYNTHETIC
    ds.StudyInstanceUID, ds.SeriesInstanceUID = new("study", *study), new("series", pixels)
    ds.FrameOfReferenceUID = new("frame", *study)
    ds.SeriesDescription = f"Synthetic, kuosan model {form.model or 'unnamed'}, research only"[:64]
    ds.DerivationDescription = remark[:1024]
    ds.Manufacturer = "Kuosan (a diffusion model, no scanner)"
    ds.Modality = scan.kind
    for empty in EMPTY:
        setattr(ds, empty, "")
    if scan.kind == "CT":
        ds.KVP = ""
    elif scan.kind == "MR":
        ds.ScanningSequence, ds.SequenceVariant, ds.ScanOptions = "RM", "NONE", ""
        ds.MRAcquisitionType = "3D" if form.volume else "2D"
        ds.RepetitionTime, ds.EchoTime, ds.EchoTrainLength = "", "", ""
    else:
        ds.ConversionType = "SYN"
    ds.InstanceNumber = str(number)
    _place(ds, scan)
    ds.Rows, ds.Columns = stored.shape
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = "MONOCHROME1" if scan.inverted else "MONOCHROME2"
    ds.BitsAllocated = ds.BitsStored = 16
    ds.HighBit, ds.PixelRepresentation = 15, int(stored.dtype == np.int16)
    ds.RescaleSlope, ds.RescaleIntercept = map(_number, scale)
    ds.RescaleType = "HU" if scan.unit == "HU" else "US"
    low, high = form.shown
    ds.WindowCenter, ds.WindowWidth = _number((low + high) / 2), _number(max(high - low, 1e-6))
    ds.PixelData = stored.tobytes()
    return ds


def _stored(scan: Scan, form: MedicalForm) -> tuple[Any, tuple[float, float]]:
    """What stands in the files, and slope and intercept that give its values back."""
    values = scan.values.astype(np.float64)
    if scan.whole:
        for kind in (np.int16, np.uint16):
            ends = np.iinfo(kind)
            if ends.min <= min(form.low, values.min()) and max(form.high, values.max()) <= ends.max:
                return np.rint(values).astype(kind), (1.0, 0.0)
    low, high = min(form.low, float(values.min())), max(form.high, float(values.max()))
    slope = (high - low) / STEPS or 1.0
    return np.rint((values - low) / slope).astype(np.uint16), (slope, low)


def _number(value: float) -> str:
    """A decimal string of at most 16 characters."""
    return next(text for digits in range(16, 3, -1) if len(text := f"{value:.{digits}g}") <= 16)


def _place(ds: Any, scan: Scan) -> None:
    if scan.affine is None:
        return
    body = np.diag([-1.0, -1.0, 1.0, 1.0]) @ scan.affine
    columns, rows = body[:3, 2], body[:3, 1]
    thick, down, right = (float(np.linalg.norm(body[:3, i])) for i in range(3))
    ds.PixelSpacing = [_number(down), _number(right)]
    ds.SliceThickness = _number(thick)
    ds.ImagePositionPatient = [_number(float(v)) for v in body[:3, 3]]
    ds.ImageOrientationPatient = [_number(float(v)) for v in (*(columns / right), *(rows / down))]
