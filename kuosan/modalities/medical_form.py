"""The one form that all scans of a data set are brought to.

sides      a scan is made smaller, never larger, until it fits, with one factor for all of its axes, and what it
           does not fill is empty; with `millimetres`, which somebody has to ask for, every scan is first brought to
           that spacing, and then what lies outside is cut
patches    or nothing is made smaller, and items are parts of scans at their own spacing (`medical_patches`)
values     x = 2 (v − low) / (high − low) − 1, and back                                               (1)
           low … high is what all but `BEYOND` of the values lie in, in their unit; the rest is clipped, and said
relative   where scans that have no unit are `APART` times as bright as others, each is measured by its own
           brightness: 1 is its `BRIGHT` quantile
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from PIL import Image

from kuosan.errors import UserError
from kuosan.modalities.base import Choice, Unreadable
from kuosan.modalities.medical_scan import AXIAL, EMPTY, OTHER, Affine, Scan, Values, axes_affine

BEYOND, BRIGHT, APART = 1e-3, 0.998, 4.0
SLICE, VOLUME = 64, 32  # longest side unless somebody asks
STEP, LEAST = 4, 8
MUCH = 0.5  # volumes that become so small are told of patches
AIR, METAL = -1024.0, 3071.0  # Hounsfield units that twelve bits hold
_LOOKED_AT = 2**22


@dataclass(frozen=True)
class MedicalForm:
    """Shape, meaning and range of a state.

    `sides` are (h, w), or (d, h, w) of a volume; `low` … `high` in `unit` map to [-1, 1], and values are whole numbers
    where `whole` says so.  `spacing` in millimetres is the median of the data, `codes` the directions in which slice,
    row and column grow, both empty where nobody says.  `window` is what is shown as black and white (all, unless said);
    `inverted` means that large values are dark.  `millimetres` is the spacing that all scans are brought to, where
    somebody asked for one.  `model` tells a model's outputs from another's, and is made of the data's pixels.
    `scan` are the sides (d, h, w) of a whole scan at the median where items are patches; empty where they are none.
    """

    sides: tuple[int, ...]
    low: float
    high: float
    unit: str = "raw"
    kind: str = OTHER
    whole: bool = False
    spacing: tuple[float, ...] = ()
    codes: str = ""
    inverted: bool = False
    window: tuple[float, float] | None = None
    millimetres: float | None = None
    model: str = ""
    scan: tuple[int, ...] = ()

    @property
    def volume(self) -> bool:
        return len(self.sides) == 3

    @property
    def patches(self) -> bool:
        """Whether items are parts of scans, of which nothing is made smaller."""
        return bool(self.scan)

    @property
    def shown(self) -> tuple[float, float]:
        """What is black and what is white."""
        return self.window or (self.low, self.high)

    @property
    def affine(self) -> Affine | None:
        """Of an item made by a model, whose middle lies at 0."""
        if not self.spacing:
            return None
        thick = self.spacing if self.volume else (1.0, *self.spacing)
        return axes_affine(self.codes or "PIL", thick, self.sides if self.volume else (1, *self.sides))  # type: ignore[arg-type]

    def to_json(self) -> dict[str, Any]:
        facts = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}
        return facts if self.scan else {k: v for k, v in facts.items() if k != "scan"}

    @classmethod
    def from_json(cls, facts: dict[str, Any]) -> MedicalForm:
        known: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in facts.items()}
        return cls(**known)

    def quantised(self, values: Values) -> Values:
        """Within low … high, empty places as low, whole where the data are."""
        values = np.nan_to_num(values, nan=self.low, posinf=self.high, neginf=self.low)
        values = np.clip(values, np.float32(self.low), np.float32(self.high))
        return np.rint(values) if self.whole else values


def fit(
    scan: Scan, sides: tuple[int, ...], millimetres: float | None
) -> tuple[Values, tuple[float, ...] | None]:
    """The values of a scan on a grid of these sides, with `EMPTY` where it has none, and their spacing."""
    if len(sides) == 3:
        scan = scan.towards(AXIAL)
    shape = scan.values.shape
    if len(shape) != len(sides):
        raise Unreadable(f"it has {len(shape)} sides where {len(sides)} are expected")
    if millimetres is not None:
        wanted = counts_at(scan, millimetres)
    else:
        scale = min(1.0, *(side / n for side, n in zip(sides, shape, strict=True)))
        wanted = tuple(max(1, round(n * scale)) for n in shape)
    values, spacing = _brought(scan, wanted)
    return framed(values, sides), spacing


def unshrunk(scan: Scan, millimetres: float | None) -> tuple[Values, tuple[float, ...] | None]:
    """All values of a volume (d, h, w) at its own spacing, or at the one that is asked for, and that spacing.  Raises
    `Unreadable`."""
    scan = scan.towards(AXIAL)
    return _brought(scan, counts_at(scan, millimetres))


def counts_at(scan: Scan, millimetres: float | None) -> tuple[int, ...]:
    """How many values a scan has along each side at this spacing, or at its own.  Raises `Unreadable`."""
    if millimetres is None:
        return scan.values.shape
    if scan.spacing is None:
        raise Unreadable("it does not say how large its pixels are, and data.spacing asks for millimetres")
    return tuple(
        max(1, round(n * s / millimetres)) for n, s in zip(scan.values.shape, scan.spacing, strict=True)
    )


def _brought(scan: Scan, shape: tuple[int, ...]) -> tuple[Values, tuple[float, ...] | None]:
    """Its values on a grid of this shape, and their spacing."""
    spacing = scan.spacing
    if spacing is not None:
        spacing = tuple(s * n / m for s, n, m in zip(spacing, scan.values.shape, shape, strict=True))
    return _resampled(scan.values, shape), spacing


def _resampled(values: Values, shape: tuple[int, ...]) -> Values:
    """By Lanczos's filter, wide enough to see every value; nothing that was not reached is made up."""
    if values.shape == shape:
        return values
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    out = np.nan_to_num(values, nan=low)
    if out.ndim == 2:
        return np.clip(_plane(out, shape[1], shape[0]), low, high)
    flat = np.stack([_plane(plane, shape[2], shape[1]) for plane in out])
    rows = _plane(flat.reshape(len(flat), -1), shape[1] * shape[2], shape[0]).reshape(shape)
    return np.clip(rows, low, high)


def _plane(values: Values, width: int, height: int) -> Values:
    if values.shape == (height, width):
        return values
    image = Image.fromarray(np.ascontiguousarray(values, np.float32), "F")
    return np.asarray(image.resize((width, height), Image.Resampling.LANCZOS))


def framed(values: Values, sides: tuple[int, ...]) -> Values:
    """In the middle of a grid: cut, or with empty places around."""
    if values.shape == sides:
        return values
    out = np.full(sides, EMPTY, np.float32)
    here, there = [], []
    for n, side in zip(values.shape, sides, strict=True):
        take = min(n, side)
        here.append(slice((n - take) // 2, (n - take) // 2 + take))
        there.append(slice((side - take) // 2, (side - take) // 2 + take))
    out[tuple(there)] = values[tuple(here)]
    return out


def choose_sides(
    shapes: Sequence[tuple[int, ...]],
    size: int | tuple[int, ...] | None,
    longest: int | None,
) -> tuple[tuple[int, ...], Choice]:
    """Sides for scans of these shapes, which all are slices or all are volumes.  Raises `UserError`."""
    dims = len(shapes[0])
    if size is not None:
        sides = asked_sides(size, dims)
        return sides, ("size", "×".join(map(str, sides)), "asked for")
    most = longest or (VOLUME if dims == 3 else SLICE)
    native = max(set(shapes), key=lambda s: (shapes.count(s), s))
    if 2 * shapes.count(native) > len(shapes) and max(native) <= most:
        why = "as it is" if shapes.count(native) == len(shapes) else "the size of most"
        return native, ("size", "×".join(map(str, native)), why)
    median = np.median(np.array(shapes), axis=0)
    scale = min(1.0, most / float(median.max()))
    sides = tuple(
        min(max(LEAST, STEP * int(np.ceil(n * scale / STEP - 1e-6))), max(most, LEAST)) for n in median
    )
    words = "×".join(map(str, sides))
    was = "×".join(f"{n:g}" for n in median)
    why = f"scans of {was} at the median, shrunk until they fit into {most}"
    if dims == 3 and scale <= MUCH:
        why += "; data.volume=patches shrinks nothing"
    return sides, ("size", words, why)


def asked_sides(size: int | tuple[int, ...], dims: int) -> tuple[int, ...]:
    """data.size as so many sides.

    Raises:
        UserError: it has another number of them, or one below 1.
    """
    sides = (size,) * dims if isinstance(size, int) else tuple(size)
    if len(sides) != dims or min(sides) < 1:
        known = "slices have two sides" if dims == 2 else "volumes have three sides"
        raise UserError(
            f"data.size={'×'.join(map(str, sides))} does not fit, as {known} of 1 or more: give {dims} numbers, or one "
            "for all"
        )
    return sides


def brightness(values: Values) -> float:
    """What 1 is where values are relative."""
    finite = values[np.isfinite(values)]
    top = float(np.quantile(finite, BRIGHT)) if finite.size else 0.0
    return top if top > 0 else max(float(np.abs(finite).max(initial=0.0)), 1e-12)


def choose_range(
    storage: Values, form: MedicalForm, asked: tuple[float, float] | None
) -> tuple[MedicalForm, list[Choice]]:
    """The form with its range and its window, from values in their unit."""
    flat = storage.reshape(-1)
    some = flat[:: max(1, flat.size // _LOOKED_AT)]
    some = some[np.isfinite(some)]
    least, most = float(np.nanmin(flat)), float(np.nanmax(flat))
    unit = "" if form.unit == "raw" else f" {form.unit}"
    if asked is not None:
        low, high = asked
        why = f"asked for; {_outside(some, low, high):.2%} of the values lie outside and are clipped"
    else:
        low, high = least, most
        for end, (q, inner) in {"low": (BEYOND, 1), "high": (1 - BEYOND, -1)}.items():
            edge = float(np.quantile(some, q))
            if inner * ((least if end == "low" else most) - edge) < -0.25 * (most - least):
                low, high = (edge, high) if end == "low" else (low, edge)
        if form.unit == "HU":
            low, high = max(low, AIR), min(high, METAL)
        if form.whole:
            low, high = float(np.floor(low)), float(np.ceil(high))
        beyond = _outside(some, low, high)
        why = f"from {least:g} to {most:g} in the data" + (
            f"; {beyond:.2%} lie outside and are clipped" if beyond else ""
        )
    high = high if high > low else low + 1.0
    form = replace(form, low=low, high=high)
    inside = np.clip(some, low, high)
    if form.window is None:
        dark, light = (float(q) for q in np.quantile(inside, (0.005, 0.995)))
        form = replace(form, window=(dark, light) if light > dark else (low, high))
    return form, [("value range", f"{low:g} … {high:g}{unit}", why)]


def _outside(values: Values, low: float, high: float) -> float:
    return float(((values < low) | (values > high)).mean()) if values.size else 0.0
