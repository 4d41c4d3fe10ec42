"""One scan or one slice of it, with what its numbers mean and where it lies in the body.

`values` are in `unit`: Hounsfield units ("HU") where a CT says so, "raw" as stored by others, "relative" to what is
bright in a scan.  `affine` takes an index (slice, row, column) to millimetres towards the patient's right, front
and head (RAS, as NIfTI has it),

    (R, A, S, 1) = affine · (slice, row, column, 1)                                                       (1)

and is None where nobody says; its columns' lengths are the spacing.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kuosan.errors import UserError

Values = NDArray[np.float32]
Affine = NDArray[np.float64]
AXIAL, CORONAL, SAGITTAL = "SPL", "PIL", "LIP"  # directions in which slice, row and column grow
PLANES = {"S": "axial", "P": "coronal", "L": "sagittal"}
KINDS = ("CT", "MR", "CR", "DX", "MG", "US", "PT", "NM", "XA", "RF", "OCT", "OPT")
OTHER = "OT"
EMPTY = np.float32(np.nan)  # what was never scanned


@dataclass(frozen=True, eq=False)
class Scan:
    """A slice (h, w) or a volume (d, h, w).

    `kind` is DICOM's code of the machine (CT, MR, …); `inverted` ones are shown with large values dark
    (MONOCHROME1); `window` are the values that the file suggests to show as black and white; `whole` says that all
    values are whole numbers.
    """

    values: Values
    unit: str = "raw"
    kind: str = OTHER
    affine: Affine | None = None
    inverted: bool = False
    window: tuple[float, float] | None = None
    whole: bool = False

    @property
    def spacing(self) -> tuple[float, ...] | None:
        """Millimetres from one value to the next along each axis of `values`."""
        if self.affine is None:
            return None
        return tuple(np.linalg.norm(self.affine[:3, :3], axis=0).tolist())[3 - self.values.ndim :]

    @property
    def plane(self) -> str:
        """In which slices lie: axial, coronal, sagittal, or "" where nobody says."""
        if self.affine is None:
            return ""
        return PLANES[PLANE_OF[codes_of(self.affine)[0]]]

    def same(self, other: Scan) -> bool:
        """Whether values, unit and spacing are equal."""
        one, two = self.spacing, other.spacing
        alike = one == two if None in (one, two) else bool(np.allclose(one, two, rtol=1e-5))  # type: ignore[arg-type]
        return self.unit == other.unit and alike and np.array_equal(self.values, other.values)

    def slices(self) -> list[Scan]:
        """Of a volume, in order."""
        return [replace(self, values=v, affine=shifted(self.affine, i)) for i, v in enumerate(self.values)]

    def towards(self, codes: str) -> Scan:
        """A volume whose axes grow in these directions, as nearly as turning and flipping can do."""
        if self.affine is None:
            return self
        from nibabel.orientations import (
            apply_orientation,
            axcodes2ornt,
            inv_ornt_aff,
            io_orientation,
            ornt_transform,
        )

        turn = ornt_transform(io_orientation(self.affine), axcodes2ornt(tuple(codes)))
        turned = apply_orientation(self.values, turn)
        return replace(self, values=turned, affine=self.affine @ inv_ornt_aff(turn, self.values.shape))

    def in_planes(self) -> Scan:
        """A volume whose first axis goes through the planes that it was taken in: those between which it is
        coarsest, or axial ones where all sides are about as fine."""
        upright = self.towards(AXIAL)
        if upright.spacing is None:
            return upright
        z, y, x = upright.spacing
        if max(y, x) <= COARSER * z or max(y, x) <= COARSER * min(y, x):
            return upright
        return upright.towards(CORONAL if y > x else SAGITTAL)


COARSER = 1.3
PLANE_OF = {"S": "S", "I": "S", "P": "P", "A": "P", "L": "L", "R": "L"}


def codes_of(affine: Affine) -> tuple[str, ...]:
    """The direction in which each axis grows most: one of R, L, A, P, S and I."""
    from nibabel.orientations import aff2axcodes

    return tuple(aff2axcodes(affine))


def shifted(affine: Affine | None, index: int) -> Affine | None:
    """That of slice number `index` alone."""
    if affine is None:
        return None
    out = affine.copy()
    out[:3, 3] += index * affine[:3, 0]
    return out


def axes_affine(codes: str, spacing: tuple[float, float, float], sides: tuple[int, ...]) -> Affine:
    """Axes along the body's, with the middle of the scan at 0."""
    out = np.zeros((4, 4))
    for axis, (code, step) in enumerate(zip(codes, spacing, strict=True)):
        row = "RAS".find(code) if code in "RAS" else "LPI".find(code)
        out[row, axis] = step if code in "RAS" else -step
    out[:3, 3] = -out[:3, :3] @ ((np.array(sides) - 1) / 2)
    out[3, 3] = 1
    return out


def library(name: str) -> Any:
    """A library that reads medical images.

    Raises:
        UserError: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        what = name.partition(".")[0]
        raise UserError(
            f"medical images are read with {what}, which is not installed: `pip install 'kuosan[medical]'`"
        ) from error
