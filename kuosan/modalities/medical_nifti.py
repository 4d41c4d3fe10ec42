"""NIfTI files: volumes with their affine; of several in time the first, or each.

Values that are not numbers (NaN), with which brain atlases mark what lies outside, become the smallest value.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from kuosan.modalities.base import Unreadable
from kuosan.modalities.medical_dicom import MOST_VALUES, named_errors
from kuosan.modalities.medical_scan import AXIAL, EMPTY, OTHER, Affine, Scan, library

REMARK = "SYNTHETIC, research only (kuosan)"


def peek_volume(path: Path) -> tuple[Scan, int]:
    """The form of a file's volumes, with nothing in them, and how many there are.  Raises `Unreadable`."""
    with named_errors(path):
        image = library("nibabel").load(path)
        *sides, count = _shape(image)
        unit, kind = _said(image)
        empty = np.broadcast_to(EMPTY, sides[::-1])
        return _upright(Scan(empty, unit, kind, _affine(image))), count


def read_volume(path: Path, moment: int = 0) -> Scan:
    """One volume (d, h, w), its axes as nearly as can be to the head, the back and the left.  Raises `Unreadable`."""
    with named_errors(path):
        image = library("nibabel").load(path)
        _shape(image)
        values = np.asarray(image.dataobj[..., moment] if len(image.shape) > 3 else image.dataobj)
        if values.dtype.kind not in "iufb":
            raise Unreadable(f"its values are no plain numbers ({values.dtype})")
        values = values.reshape(*values.shape, *[1] * (3 - values.ndim)).astype(np.float64)
        bad = ~np.isfinite(values)
        if np.isinf(values).any() or bad.all():
            raise Unreadable(
                "it holds infinite values" if not bad.all() else "none of its values is a number (NaN)"
            )
        whole = bool((values[~bad] == np.rint(values[~bad])).all())
        affine = _affine(image)
        values = values.astype(np.float32)
        values[bad] = EMPTY
        unit, kind = _said(image)
        scan = Scan(np.moveaxis(values, (0, 1, 2), (2, 1, 0)), unit, kind, affine, whole=whole)
        return _upright(scan)


def _upright(scan: Scan) -> Scan:
    return scan if len(scan.values) == 1 else scan.towards(AXIAL)


def _said(image: Any) -> tuple[str, str]:
    """Unit and machine, which files of ours say and others cannot."""
    text = (
        image.header["descrip"].tobytes().rstrip(b"\0").decode("latin1") if "descrip" in image.header else ""
    )
    if not text.startswith(REMARK):
        return "raw", OTHER
    unit, _, kind = text.rpartition("; ")[2].partition(" ")
    return unit, kind


def write_volume(scan: Scan, path: Path) -> None:
    """A slice or a volume with its affine, as whole numbers where it holds such."""
    nibabel = library("nibabel")
    values = scan.values if scan.values.ndim == 3 else scan.values[None]
    kind = np.int16 if scan.whole and np.abs(values).max(initial=0) < 2**15 else np.float32
    turn = np.eye(4)[[2, 1, 0, 3]]  # NIfTI counts columns first
    affine = None if scan.affine is None else scan.affine @ turn
    image = nibabel.Nifti1Image(np.ascontiguousarray(values.T).astype(kind), affine)
    image.header["descrip"] = f"{REMARK}; {scan.unit} {scan.kind}"
    if affine is not None:
        image.header.set_xyzt_units("mm")
    else:
        image.set_sform(None, 0)
        image.set_qform(None, 0)
    nibabel.save(image, path)


def _shape(image: Any) -> tuple[int, int, int, int]:
    """Sides and moments."""
    shape = tuple(int(n) for n in image.shape)
    if not shape or 0 in shape:
        raise Unreadable(f"it has no size ({'×'.join(map(str, shape))})")
    if len(shape) > 4 and any(n != 1 for n in shape[4:]):
        raise Unreadable(
            f"it has {len(shape)} dimensions, and no more than time beside the three of space are read"
        )
    sides = (*shape[:3], 1, 1, 1)[:3]
    if sides[0] * sides[1] * sides[2] > MOST_VALUES:
        raise Unreadable(f"it claims {'×'.join(map(str, sides))} values, which is far too large")
    return sides[0], sides[1], sides[2], shape[3] if len(shape) > 3 else 1


def _affine(image: Any) -> Affine | None:
    """Index (slice, row, column) = (k, j, i) to right, front and head; None where the file does not say."""
    header = image.header
    affine = np.asarray(image.affine, float)
    said = "sform_code" not in header or int(header["sform_code"]) > 0 or int(header["qform_code"]) > 0
    if not said or not np.isfinite(affine).all() or abs(np.linalg.det(affine)) < 1e-9:
        return None
    return affine @ np.eye(4)[[2, 1, 0, 3]]
