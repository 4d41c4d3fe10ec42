"""Parts of scans at the scans' own spacing: where they lie, what is in them, and how a network is told.

A patch of sides (d, h, w) begins at a voxel s of a scan of sides n. What a scan does not have is empty, half of it
before and half of it behind, so s is negative where the scan is thinner than the patch. By the *place* of a patch, the
six whole numbers of s and n, its voxel i lies along each axis at

    u = (2 (s + i) + 1) / n − 1                                                              (1)

which is −1 where the scan begins and 1 where it ends; these three numbers stand beside every voxel (`BESIDE`).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int32
from torch import Tensor

from kuosan.core.windows import starts_of
from kuosan.errors import UserError
from kuosan.modalities.base import Choice, Unreadable
from kuosan.modalities.medical_form import (
    LEAST,
    STEP,
    VOLUME,
    MedicalForm,
    Values,
    asked_sides,
    counts_at,
    framed,
)
from kuosan.modalities.medical_series import Series

Place = tuple[int, ...]  # where a patch begins, and the sides of its scan
OVERLAP = 0.25  # of neighbouring patches at least, as a part of their sides


@dataclass(frozen=True, eq=False)
class Placed:
    """Patches as storage: their values and their places."""

    values: Tensor  # (n, 1, d, h, w), float32 or int16
    places: Int32[Tensor, "n 6"]

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: Tensor | slice) -> Placed:
        return Placed(self.values[index], self.places[index])


def placed(values: Values, places: Sequence[Place], form: MedicalForm) -> Placed:
    """As storage, in 16 bits where they hold all that there is in this form."""
    stored, ends = torch.from_numpy(values), torch.iinfo(torch.int16)
    if form.whole and ends.min <= form.low and form.high <= ends.max:
        stored = stored.to(torch.int16)
    return Placed(stored, torch.tensor(places, dtype=torch.int32))


def patches(values: Values, sides: tuple[int, ...]) -> Iterator[tuple[Values, Place]]:
    """Patches that cover a scan (d, h, w) wholly, in the order of their places."""
    shape = values.shape
    for corner in itertools.product(*(_starts(n, side) for n, side in zip(shape, sides, strict=True))):
        inside = tuple(slice(max(0, s), s + side) for s, side in zip(corner, sides, strict=True))
        yield framed(values[inside], sides), (*corner, *shape)


def _starts(n: int, side: int) -> list[int]:
    return starts_of(n, side, OVERLAP) if n > side else [-((side - n) // 2)]


def coordinates(places: Int32[Tensor, "b 6"], sides: Sequence[int]) -> Float[Tensor, "b 3 *sides"]:
    """Equation (1) of every voxel of patches of these sides."""
    along = []
    for axis, side in enumerate(sides):
        s, n = places[:, axis, None].double(), places[:, 3 + axis, None].double()
        u = (2 * (s + torch.arange(side)) + 1) / n - 1
        shape = [len(places), *(side if i == axis else 1 for i in range(3))]
        along.append(u.float().reshape(shape).expand(-1, *sides))
    return torch.stack(along, 1)


def choose_patch(
    shapes: Sequence[tuple[int, ...]], size: int | tuple[int, ...] | None, longest: int | None
) -> tuple[tuple[int, ...], tuple[int, ...], list[Choice]]:
    """Sides of patches of scans of these shapes, and of a whole scan at the median.  Raises `UserError`."""
    median = [int(n) for n in np.median(np.array(shapes), axis=0)]
    if size is not None:
        sides = asked_sides(size, 3)
    else:
        sides = tuple(max(LEAST, min(longest or VOLUME, n) // STEP * STEP) for n in median)
    scan = tuple(max(n, side) for n, side in zip(median, sides, strict=True))
    why = f"{'asked for; ' if size is not None else ''}parts of scans, which keep their own resolution"
    return sides, scan, [
        ("size", "×".join(map(str, sides)), why),
        ("whole scans", "×".join(map(str, scan)) + " voxels",
         f"at the median: `kuosan sample RUN --size {'x'.join(map(str, scan))}`"),
    ]  # fmt: skip


def whole_shapes(series: Sequence[Series], spacing: float | None) -> list[tuple[int, ...]]:
    """Sides (d, h, w) of whole scans at this spacing, or at their own.  Raises `UserError`."""
    shapes, why = [], ""
    for one in series:
        try:
            shapes.append(counts_at(one.form, spacing))
        except Unreadable as error:
            why = error.reason
    if not shapes:
        raise UserError(f"{series[0].entries[0].name}: {why}")
    return shapes
