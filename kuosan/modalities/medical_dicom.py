"""DICOM files: what their headers say of each frame, and the frames' values in units.

    value = slope · stored + intercept        (PS3.3 C.11.1; a CT's are Hounsfield units unless it says otherwise)   (1)
    x(row, column) = position + column · Δc · (first direction) + row · Δr · (second)         (PS3.3 C.7.6.2.1.1)    (2)

DICOM's axes grow to the patient's left, back and head; `medical_scan` has right, front and head, so the first two rows
of (2) change sign.  Of all that a header says about a person only a digest is kept, in memory, to tell patients apart.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kuosan.errors import UserError
from kuosan.modalities.base import Unreadable
from kuosan.modalities.medical_scan import KINDS, OTHER, Affine, Scan, Values, library

SYNTHETIC = "SYNTHETIC"  # the patient of what a model made
MOST_VALUES = 2**29  # of one frame or volume: more is damaged, or hostile
_SHAPE = "PixelMeasuresSequence"


@dataclass(frozen=True, eq=False)
class Frame:
    """One frame of a file: where it is, to whom and to which series it belongs, and how its values are to be read.

    `patient` and `series` are digests; frames of one series have one size, one kind and parallel planes. `place` is the
    way along the series' normal in millimetres, or its number where no position is known. `ends` are the least and the
    most that its bits can hold, in its unit.
    """

    path: Path
    index: int | None
    patient: bytes
    series: bytes
    place: float
    size: tuple[int, int]
    kind: str
    unit: str
    inverted: bool
    affine: Affine | None
    window: tuple[float, float] | None
    ends: tuple[float, float]


def read_frames(path: Path) -> list[Frame]:
    """What is known of each frame of a file, from its header alone.  Raises `Unreadable`."""
    with named_errors(path):
        ds = _header(path)
        _check(ds)
        count = int(ds.get("NumberOfFrames") or 1)
        several = count > 1 or "PerFrameFunctionalGroupsSequence" in ds
        patient, series = _whose(ds, path)
        found = []
        for i in range(count):
            affine = _affine(ds, i)
            normal = None if affine is None else _normal(affine)
            place = float(ds.get("InstanceNumber") or 0) + i / count
            if affine is not None and normal is not None and _position(ds, i) is not None:
                place = float(affine[:3, 3] @ normal)
            kind = str(ds.get("Modality", OTHER))
            kind = kind if kind in KINDS else OTHER
            size = (int(ds.Rows), int(ds.Columns))
            unit = _unit(ds, i, kind)
            flat = "" if normal is None else str(np.round(normal, 2) + 0.0)
            key = hashlib.sha256(f"{series!r} {size} {kind} {unit} {flat}".encode()).digest()
            inverted = ds.PhotometricInterpretation == "MONOCHROME1"
            found.append(
                Frame(
                    path, i if several else None, patient, key, place, size, kind, unit, inverted, affine,
                    _window(ds, i), _ends(ds, i),
                )
            )  # fmt: skip
        return found


class Opened:
    """The file that was read last, so that one of many frames is not parsed for each."""

    def __init__(self) -> None:
        self._path: Path | None = None
        self._ds: Any = None

    def read(self, path: Path) -> Any:
        if path != self._path:
            self._ds, self._path = library("pydicom").dcmread(path), path
            _check(self._ds)
        return self._ds


def read_scan(frame: Frame, opened: Opened | None = None) -> Scan:
    """The values of a frame, in its unit.  Raises `Unreadable`."""
    with named_errors(frame.path):
        ds = (opened or Opened()).read(frame.path)
        stored = _pixels(ds, frame.index)
        if stored.shape != frame.size:
            raise Unreadable(f"its pixels are {stored.shape} and not {frame.size} as its header says")
        values, whole = _in_units(ds, frame.index or 0, stored)
        return Scan(values, frame.unit, frame.kind, frame.affine, frame.inverted, frame.window, whole)


def turned(scan: Scan, bits: tuple[float, float]) -> Scan:
    """A MONOCHROME1 scan among others, or the reverse: values run the other way between the ends that are given."""
    low, high = bits
    return Scan(
        low + high - scan.values, scan.unit, scan.kind, scan.affine, not scan.inverted, None, scan.whole
    )


@contextmanager
def named_errors(path: Path) -> Iterator[None]:
    """Turns whatever a reader throws at a bad file into `Unreadable`, in which nothing of the file's text stands."""
    import warnings

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if path.stat().st_size == 0:
                raise Unreadable("the file is empty (0 bytes)")
            yield
    except Unreadable as error:
        raise Unreadable(error.reason, path) from None
    except UserError:
        raise
    except PermissionError:
        raise Unreadable("no permission to read it", path) from None
    except EOFError:
        raise Unreadable("the file ends too early (truncated)", path) from None
    except Exception as error:  # readers raise anything at all on damaged data; nothing of ours runs in here
        text = str(error).lower()
        early = any(word in text for word in ("truncated", "end of file", "less than", "expected", "eof"))
        reason = (
            "the file ends too early (truncated)"
            if early
            else f"the file is damaged ({type(error).__name__})"
        )
        raise Unreadable(reason, path) from None


def _header(path: Path) -> Any:
    return library("pydicom").dcmread(path, stop_before_pixels=False, defer_size=4096)


def _check(ds: Any) -> None:
    """Raises `Unreadable` for what holds no grey values that can be read."""
    from pydicom.pixels import get_decoder
    from pydicom.uid import UID

    from kuosan.modalities.medical_decode import register

    if not any(name in ds for name in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")):
        what = UID(ds.get("SOPClassUID", "")).name if ds.get("SOPClassUID") else ""
        what = f" ({what})" if what and not what[0].isdigit() else ""
        raise Unreadable(f"a DICOM file without pixels{what}")
    colours = str(ds.get("PhotometricInterpretation", ""))
    if not colours.startswith("MONOCHROME"):
        raise Unreadable(f"a colour picture ({colours or 'of no known kind'}); give it as PNG")
    rows, columns = int(ds.get("Rows") or 0), int(ds.get("Columns") or 0)
    if rows * columns == 0:
        raise Unreadable(f"it has no size ({rows}×{columns} pixels)")
    if rows * columns > MOST_VALUES:
        raise Unreadable(f"it claims {rows}×{columns} pixels, which is far too large")
    syntax = UID(ds.file_meta.get("TransferSyntaxUID", "") or "")
    if not syntax:
        raise Unreadable("its header does not say how its pixels are stored (no transfer syntax)")
    register()
    try:
        able = get_decoder(syntax).is_available
    except NotImplementedError:
        able = False
    if not able:
        name = "" if syntax.name == str(syntax) else f"{syntax.name}, "
        raise Unreadable(
            f"its pixels are stored in a way that is not known here ({name}transfer syntax {syntax})"
        )


def _whose(ds: Any, path: Path) -> tuple[bytes, bytes]:
    """Digests of the patient and of the series; a synthetic item is a patient of its own."""
    series = str(ds.get("SeriesInstanceUID") or path.parent)
    person = f"{ds.get('PatientID') or ''}|{ds.get('PatientName') or ''}"
    if person.strip("|") == "" or str(ds.get("PatientID")) == SYNTHETIC:
        person = str(ds.get("StudyInstanceUID") or "") if person == "|" else series
    person = person or series
    return hashlib.sha256(person.encode()).digest(), hashlib.sha256(f"{person}|{series}".encode()).digest()


def _value(ds: Any, frame: int, group: str, name: str) -> Any:
    """An attribute of a frame: in its own functional group, in the shared one, or in the file's header."""
    for places, i in (("PerFrameFunctionalGroupsSequence", frame), ("SharedFunctionalGroupsSequence", 0)):
        items = ds.get(places)
        if items and i < len(items) and items[i].get(group):
            value = items[i].get(group)[0].get(name)
            if value is not None and value != "":
                return value
    value = ds.get(name)
    return None if value == "" else value


def _affine(ds: Any, frame: int) -> Affine | None:
    """Equation (2) for an index (0, row, column) in right, front and head; the first column is a slice's thickness."""
    position = _position(ds, frame)
    directions = _value(ds, frame, "PlaneOrientationSequence", "ImageOrientationPatient")
    spacing = _value(ds, frame, _SHAPE, "PixelSpacing") or ds.get("ImagerPixelSpacing")
    if position is None or directions is None or spacing is None:
        return _flat(spacing)
    right, down = np.array(directions, float)[:3], np.array(directions, float)[3:]
    rows, columns = (float(s) for s in spacing)
    thick = _value(ds, frame, _SHAPE, "SpacingBetweenSlices") or _value(ds, frame, _SHAPE, "SliceThickness")
    out = np.eye(4)
    out[:3, 0] = np.cross(right, down) * abs(float(thick or 1.0))
    out[:3, 1], out[:3, 2], out[:3, 3] = down * rows, right * columns, np.array(position, float)
    if not np.isfinite(out).all() or abs(np.linalg.det(out)) < 1e-9:
        return None
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ out


def _position(ds: Any, frame: int) -> Any:
    return _value(ds, frame, "PlanePositionSequence", "ImagePositionPatient")


def _flat(spacing: Any) -> Affine | None:
    """Of a projection, an X-ray, which lies nowhere but has pixels of a size: as if it were seen from the front."""
    if spacing is None or min(float(s) for s in spacing) <= 0:
        return None
    rows, columns = (float(s) for s in spacing)
    out = np.zeros((4, 4))
    out[1, 0], out[2, 1], out[0, 2], out[3, 3] = -1.0, -rows, -columns, 1.0
    return out


def _normal(affine: Affine) -> Any:
    normal = affine[:3, 0]
    return normal / np.linalg.norm(normal)


def _unit(ds: Any, frame: int, kind: str) -> str:
    """HU where a CT's values are Hounsfield units: rescaled, not told otherwise, and no overview (localizer)."""
    group = "PixelValueTransformationSequence"
    said = _value(ds, frame, group, "RescaleType")
    scaled = _value(ds, frame, group, "RescaleSlope") is not None or "ModalityLUTSequence" in ds
    overview = "LOCALIZER" in [str(word) for word in ds.get("ImageType") or ()]
    return "HU" if kind == "CT" and scaled and not overview and str(said or "HU").startswith("HU") else "raw"


def _window(ds: Any, frame: int) -> tuple[float, float] | None:
    """The first window that a file suggests, as its ends."""
    ends = [_value(ds, frame, "FrameVOILUTSequence", name) for name in ("WindowCenter", "WindowWidth")]
    centre, width = (e if e is None or isinstance(e, (int, float)) else next(iter(e), None) for e in ends)
    if centre is None or width is None or float(width) <= 1:
        return None
    return float(centre) - float(width) / 2, float(centre) + float(width) / 2


def _ends(ds: Any, frame: int) -> tuple[float, float]:
    bits, slope, intercept = int(ds.get("BitsStored") or 16), *_rescale(ds, frame)
    low = -(2 ** (bits - 1)) if ds.get("PixelRepresentation") else 0
    one, two = (slope * end + intercept for end in (low, low + 2**bits - 1))
    return min(one, two), max(one, two)


def _rescale(ds: Any, frame: int) -> tuple[float, float]:
    """Slope and intercept of equation (1)."""
    group = "PixelValueTransformationSequence"
    slope, intercept = (_value(ds, frame, group, name) for name in ("RescaleSlope", "RescaleIntercept"))
    return (1.0 if slope is None else float(slope)), float(intercept or 0)


def _pixels(ds: Any, index: int | None) -> Any:
    from pydicom.pixels import pixel_array

    return np.atleast_2d(pixel_array(ds, index=index))


def _in_units(ds: Any, frame: int, stored: Any) -> tuple[Values, bool]:
    """Equation (1), or the file's table; and whether all values are whole."""
    from pydicom.pixels import apply_modality_lut

    padding = ds.get("PixelPaddingValue")
    if "ModalityLUTSequence" in ds:
        values = np.asarray(apply_modality_lut(stored, ds), np.float64)
    else:
        slope, intercept = _rescale(ds, frame)
        values = stored.astype(np.float64) * slope + intercept
    if not np.isfinite(values).all():
        raise Unreadable("it holds values that are not finite (NaN or infinity)")
    if isinstance(padding, int):
        outside = stored == padding
        if outside.any() and not outside.all():
            values[outside] = values[~outside].min()
    return values.astype(np.float32), bool((values == np.rint(values)).all())
