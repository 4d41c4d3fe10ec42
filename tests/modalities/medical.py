"""Medical files made by rules, with the names of people who never were."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom import uid
from pydicom.dataset import Dataset, FileMetaDataset

NAME, NUMBER, BIRTH, DATE, ROOT = "Mustermann^Erika", "MRN4711", "19620417", "20190823", "1.2.3.4567"
SECRETS = ("Mustermann", "Erika", NUMBER, BIRTH, DATE, ROOT, "Saint Nowhere", "Quack", "ACC815")


def dicom(
    path: Path,
    stored: NDArray[Any],
    *,
    patient: str = "0",
    series: str = "0",
    number: int = 1,
    kind: str = "CT",
    slope: float | None = 1.0,
    intercept: float = -1024.0,
    position: tuple[float, float, float] | None = (0.0, 0.0, 0.0),
    directions: tuple[float, ...] = (1, 0, 0, 0, 1, 0),
    spacing: tuple[float, float] | None = (0.5, 0.75),
    save: bool = True,
    **tags: Any,
) -> Dataset:
    """One file of a slice, uncompressed."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = uid.CTImageStorage
    who = patient if patient.isdigit() else str(int.from_bytes(patient.encode()))
    who = str(int(who) + 1)  # a UID's parts have no leading zeros
    own = f"{ROOT}.{who}.{series}.{number}"
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = own
    ds.StudyInstanceUID, ds.SeriesInstanceUID = f"{ROOT}.{who}", f"{ROOT}.{who}.{series}"
    ds.PatientName, ds.PatientID, ds.PatientBirthDate = f"{NAME}{patient}", f"{NUMBER}{patient}", BIRTH
    ds.StudyDate, ds.AccessionNumber = DATE, "ACC815"
    ds.InstitutionName, ds.ReferringPhysicianName = "Saint Nowhere", "Quack"
    ds.StudyDescription = f"{NAME} head"
    ds.Modality, ds.InstanceNumber = kind, number
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    if position is not None:
        ds.ImagePositionPatient, ds.ImageOrientationPatient = list(position), list(directions)
    if spacing is not None:
        ds.PixelSpacing = list(spacing)
    ds.SliceThickness = 2.0
    if slope is not None:
        ds.RescaleSlope, ds.RescaleIntercept = slope, intercept
    ds.Rows, ds.Columns = stored.shape[-2:]
    if stored.ndim == 3:
        ds.NumberOfFrames = len(stored)
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated = ds.BitsStored = 8 * stored.dtype.itemsize
    ds.HighBit, ds.PixelRepresentation = ds.BitsStored - 1, int(stored.dtype.kind == "i")
    ds.PixelData = stored.tobytes()
    for name, value in tags.items():
        setattr(ds, name, value)
    if save:
        path.parent.mkdir(parents=True, exist_ok=True)
        ds.save_as(path, enforce_file_format=True)
    return ds


def phantom(seed: int, n: int = 12, side: int = 16) -> NDArray[np.int16]:
    """A bright ball with a little noise, as slices (n, side, side) in stored values of a CT."""
    rng = np.random.default_rng(seed)
    z, y, x = np.indices((n, side, side)) - np.array([n, side, side])[:, None, None, None] / 2
    inside = (z * 2) ** 2 + y**2 + x**2 < (side * 0.4) ** 2
    return (inside * (1064 + 10 * (seed % 5)) + rng.integers(0, 20, inside.shape)).astype(np.int16)


def patient(folder: Path, name: str, seed: int, n: int = 12, side: int = 16, **more: Any) -> None:
    """A series of n slices, 2 mm apart, in files whose names do not tell their order."""
    order = np.random.default_rng(seed).permutation(n)
    for k, stored in enumerate(phantom(seed, n, side)):
        at = {"position": (0.0, 0.0, 2.0 * k), "number": n - k} | more
        dicom(folder / f"{NAME}_{name}_{order[k]:03d}.dcm", stored, patient=name, **at)


def read(path: Path) -> Dataset:
    """By pydicom itself."""
    return pydicom.dcmread(path)
