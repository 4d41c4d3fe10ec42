"""The first pass over medical files: which series they hold, whose these are, and which go together.

A series is what is read as one: the frames of DICOM files with one series number, one size and parallel planes, in the
order of their places, or one volume of a NIfTI file. Who it is of is told by DICOM, by a table, by "sub-…" in a
file's path (BIDS), or guessed (`medical_told`).
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from kuosan.modalities.base import Skip, Unreadable
from kuosan.modalities.folder import Entry, Folder
from kuosan.modalities.medical_dicom import Frame, Opened, read_frames, read_scan, turned
from kuosan.modalities.medical_nifti import peek_volume, read_volume
from kuosan.modalities.medical_scan import AXIAL, Scan
from kuosan.modalities.medical_told import MANY, person_of
from kuosan.modalities.sides import HELD_OUT, TRAIN

EVEN = 0.1  # by how much gaps between slices may differ, of their median
FEWEST = 4  # slices of a volume
_BIDS = re.compile(r"(?:^|[/\\_])(sub-[A-Za-z0-9]+)")
NIFTI = (".nii", ".nii.gz")


@dataclass(frozen=True, eq=False)
class Series:
    """`frames` of DICOM, or volume number `moment` of a file whose form is `peeked`; `known` where its `patient` is not
    only guessed.  `entries` are the files, one for each frame."""

    entries: tuple[Entry, ...]
    patient: bytes
    known: bool
    frames: tuple[Frame, ...] = ()
    peeked: Scan | None = None
    moment: int = 0
    moments: int = 1

    @property
    def unit(self) -> str:
        return self.frames[0].unit if self.frames else self._peeked.unit

    @property
    def kind(self) -> str:
        return self.frames[0].kind if self.frames else self._peeked.kind

    @property
    def inverted(self) -> bool:
        return bool(self.frames and self.frames[0].inverted)

    @property
    def _peeked(self) -> Scan:
        assert self.peeked is not None
        return self.peeked

    def shape(self, volume: bool) -> tuple[int, ...]:
        """Of one item, before it is fitted."""
        if volume:
            return self.form.values.shape
        return self.frames[0].size if self.frames else self.planes(self._peeked).values.shape[1:]

    @property
    def form(self) -> Scan:
        """All of it as a volume, upright, with nothing in it."""
        return self._form().towards(AXIAL) if self.frames else self._peeked

    def _form(self) -> Scan:
        """A DICOM series as a volume, with nothing in it."""
        first = self.frames[0]
        values = np.broadcast_to(np.float32(0), (len(self.frames), *first.size))
        return Scan(values, first.unit, first.kind, _stacked(self.frames), first.inverted, first.window)

    @staticmethod
    def planes(scan: Scan) -> Scan:
        """A volume cut along the planes that it was taken in; a single slice is one."""
        return scan if len(scan.values) == 1 else scan.in_planes()

    def items(self, volume: bool, flip: bool) -> Iterator[tuple[Callable[[], Scan], Entry]]:
        """What reads each of its items, and the file that it is of; with `flip`, values run the other way.

        Raises `Unreadable`, as do the readers, for one item alone.
        """
        if not self.frames:
            scan = read_volume(self.entries[0].path, self.moment)
            for one in [scan] if volume else self.planes(scan).slices():
                yield partial(_itself, one), self.entries[0]
        elif volume:
            yield partial(self.volume, flip), self.entries[0]
        else:
            opened = Opened()
            for frame, entry in zip(self.frames, self.entries, strict=True):
                yield partial(self._read, frame, flip, opened), entry

    def volume(self, flip: bool) -> Scan:
        """All its frames as one.  Raises `Unreadable`."""
        opened = Opened()
        parts = [self._read(frame, flip, opened) for frame in self.frames]
        values = np.stack([part.values for part in parts])
        return replace(
            self._form(), values=values, inverted=parts[0].inverted, whole=all(p.whole for p in parts)
        )

    def _read(self, frame: Frame, flip: bool, opened: Opened) -> Scan:
        scan = read_scan(frame, opened)
        return turned(scan, frame.ends) if flip else scan

    @property
    def gap(self) -> str:
        """Why its slices are no volume; nothing where they are."""
        if not self.frames:
            return "" if len(self._peeked.values) >= FEWEST else f"fewer than {FEWEST} slices"
        if len(self.frames) < FEWEST:
            return f"fewer than {FEWEST} slices"
        if self.frames[0].affine is None:
            return ""
        steps = np.diff([frame.place for frame in self.frames])
        usual = float(np.median(steps))
        if usual <= 0 or np.abs(steps - usual).max() > EVEN * usual:
            return f"its slices do not lie evenly (gaps of {steps.min():.3g} to {steps.max():.3g} mm)"
        return ""


def _itself(scan: Scan) -> Scan:
    return scan


def _stacked(frames: Sequence[Frame]) -> Any:
    """The affine of a series: that of its first slice, with the way from slice to slice."""
    first, last = frames[0].affine, frames[-1].affine
    if first is None or last is None or len(frames) < 2:
        return first
    out = first.copy()
    out[:3, 0] = (last[:3, 3] - first[:3, 3]) / (len(frames) - 1)
    return out if abs(np.linalg.det(out)) > 1e-9 else first


def survey(folder: Folder, moments: str) -> tuple[list[Series], list[Skip]]:
    """All series, in the order of their files, and what cannot be read."""
    crowds = Counter(entry.path.parent for entry in folder.entries)
    found: dict[bytes, list[tuple[Frame, Entry]]] = {}
    out: list[Series] = []
    failed: list[Skip] = []
    for entry in folder.entries:
        try:
            said = person_of(dict(entry.columns))
            if entry.is_array:
                raise Unreadable(
                    "an array, which has no unit and no place; give it alone to use it as pictures"
                )
            if not entry.path.name.lower().endswith(NIFTI):
                for frame in read_frames(entry.path):
                    who = _digest(said) if said else frame.patient
                    found.setdefault(frame.series, []).append((replace(frame, patient=who), entry))
                continue
            peeked, count = peek_volume(entry.path)
            who, known = _owner(entry.path, folder.root, said, crowds)
            for moment in range(count if moments == "all" else 1):
                out.append(Series((entry,), who, known, (), peeked, moment, count))
        except Unreadable as error:
            failed.append((entry.name, error.reason))
    for rows in found.values():
        for part in _times(sorted(rows, key=lambda row: (row[0].place, row[1].name))):
            frames, entries = zip(*part, strict=True)
            out.append(Series(entries, frames[0].patient, True, frames))
    return sorted(out, key=lambda series: (series.entries[0].name, series.moment)), failed


def _times(rows: list[tuple[Frame, Entry]]) -> list[list[tuple[Frame, Entry]]]:
    """Frames at the same places, one series for each time that they were taken."""
    places = [frame.place for frame, _ in rows]
    counts = set(Counter(places).values())
    if len(counts) == 1 and (n := counts.pop()) > 1 and len(set(places)) > 1:
        return [rows[i::n] for i in range(n)]
    return [rows]


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def _owner(path: Path, root: Path, said: str, crowds: Counter[Path]) -> tuple[bytes, bool]:
    """Who a NIfTI file is of, and whether anybody says so."""
    if said:
        return _digest(said), True
    inside = str(path.relative_to(root)) if path.is_relative_to(root) else path.name
    if bids := _BIDS.search(inside):
        return _digest(bids[1]), True
    parent = path.parent
    small = crowds[parent] < MANY and parent != root and parent.name.lower() not in TRAIN | HELD_OUT
    return _digest(str(parent if small else path)), False


def alike(series: list[Series], unit: str | None) -> tuple[list[Series], list[Skip]]:
    """The series that go together, of the unit that is asked for or of the most common machine, and the others."""

    def key(one: Series) -> tuple[str, ...]:
        return (one.unit,) if unit is not None else (one.unit, one.kind)

    def weight(one: Series) -> int:
        return max(len(one.frames), 1)

    if not series:
        return [], []
    counts: Counter[tuple[str, ...]] = Counter()
    for one in series:
        counts[key(one)] += weight(one)
    if unit is not None:
        wanted: tuple[str, ...] = ("raw" if unit == "relative" else unit,)
    else:
        wanted = max(sorted(counts), key=lambda k: counts[k])
    kept = [one for one in series if key(one) == wanted or one.unit == unit]
    out = [
        (one.entries[0].name, f"{one.kind} in {one.unit} units beside {' in '.join(wanted[::-1])} units")
        for one in series
        if one not in kept
    ]
    return kept, list(dict.fromkeys(out))
