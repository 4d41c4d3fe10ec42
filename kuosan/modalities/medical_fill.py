"""The second pass over scans: each is decoded, brought to the form and kept, one series in memory at a time."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace

import numpy as np

from kuosan.modalities.base import Skip, Unreadable
from kuosan.modalities.folder import Entry
from kuosan.modalities.medical_form import Values, brightness, fit, unshrunk
from kuosan.modalities.medical_patches import Place, patches
from kuosan.modalities.medical_scan import Scan
from kuosan.modalities.medical_series import Series


@dataclass
class Filled:
    """What the second pass found, one of each per item but for `failed`."""

    values: list[Values] = field(default_factory=list)
    hashes: list[bytes] = field(default_factory=list)
    series: list[Series] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)  # within the series
    places: list[Place] = field(default_factory=list)  # of patches
    tops: list[float | None] = field(default_factory=list)  # of patches, how bright their scans are
    spacings: list[tuple[float, ...] | None] = field(default_factory=list)
    scans: list[Scan] = field(default_factory=list)  # without their values
    failed: list[Skip] = field(default_factory=list)
    blank: int = 0
    holes: int = 0

    def stacked(self) -> Values:
        """All values (n, 1, *sides), of which nothing is kept here: there is no room for them twice."""
        out = np.empty((len(self.values), 1, *self.values[0].shape), np.float32)
        self.values.reverse()
        for row in out:
            row[0] = self.values.pop()
        return out


def fill(
    series: list[Series],
    sides: tuple[int, ...],
    spacing: float | None,
    inverted: bool,
    *,
    whole: bool,
    cut: bool,
) -> Filled:
    """All items: slices, ``whole`` volumes, or such, ``cut`` into patches."""
    found = Filled()
    for one in series:
        entry = one.entries[0]
        try:
            for number, (read, entry) in enumerate(one.items(whole, one.inverted != inverted)):
                try:
                    scan = read()
                    parts, apart, top = _parts(scan, sides, spacing, cut)
                except Unreadable as error:
                    found.failed.append((entry.name, error.reason))
                    continue
                form = replace(scan, values=np.broadcast_to(np.float32(0), scan.values.shape))
                before = len(found.values)
                for k, (values, place) in enumerate(parts):
                    finite = values[np.isfinite(values)]
                    if not finite.size or finite.min() == finite.max():
                        found.blank += 1
                        continue
                    found.values.append(values)
                    found.hashes.append(_hash(values if cut else scan.values))
                    found.series.append(one)
                    found.entries.append(entry)
                    found.numbers.append(k if cut else number)
                    found.places.append(place)
                    found.tops.append(top)
                    found.spacings.append(apart)
                    found.scans.append(form)
                found.holes += int(len(found.values) > before and np.isnan(scan.values).any())
        except Unreadable as error:
            found.failed.append((entry.name, error.reason))
    return found


def _parts(
    scan: Scan, sides: tuple[int, ...], spacing: float | None, cut: bool
) -> tuple[list[tuple[Values, Place]], tuple[float, ...] | None, float | None]:
    """The values of each item of a scan and its place, their spacing, and how bright the scan is; of one that is not
    cut neither place nor brightness.  Raises `Unreadable`."""
    if not cut:
        values, apart = fit(scan, sides, spacing)
        return [(values, ())], apart, None
    values, apart = unshrunk(scan, spacing)
    # Copies: a view would keep all of the scan.
    parts = [(part.copy(), place) for part, place in patches(values, sides)]
    return parts, apart, brightness(values)


def _hash(values: Values) -> bytes:
    digest = hashlib.sha256(str(values.shape).encode())
    digest.update(np.ascontiguousarray(values).data)
    return digest.digest()


def rows_of(found: Filled) -> list[list[int]]:
    """The items of each series."""
    rows: dict[int, list[int]] = {}
    for i, one in enumerate(found.series):
        rows.setdefault(id(one), []).append(i)
    return list(rows.values())


def relative(storage: Values, found: Filled) -> Values:
    for rows in rows_of(found):
        if found.series[rows[0]].unit != "relative":
            storage[rows] /= top_of(storage, found, rows)
    return storage


def top_of(storage: Values, found: Filled, rows: list[int]) -> float:
    """How bright the scan is of which these are the items."""
    top = found.tops[rows[0]]
    return brightness(storage[rows]) if top is None else top
