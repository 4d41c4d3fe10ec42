"""All scans of a folder in one form, one series in memory at a time besides the small results.

The first pass reads headers (`medical_series`) and chooses what can be known from them; the second decodes, fits and
keeps. Slices in which nothing is are left out. All items of a patient stay on one side of the split; where there is one
patient only, the held-out items are blocks of neighbouring slices, which says nothing of other patients, and that is
said.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from kuosan.errors import UserError
from kuosan.modalities.base import Choice, Gathered, Skip
from kuosan.modalities.folder import CLASS, Folder
from kuosan.modalities.medical_fill import Filled, fill, relative, rows_of, top_of
from kuosan.modalities.medical_form import (
    APART,
    MedicalForm,
    Values,
    choose_range,
    choose_sides,
)
from kuosan.modalities.medical_patches import choose_patch, placed, whole_shapes
from kuosan.modalities.medical_scan import AXIAL, codes_of
from kuosan.modalities.medical_series import Series, alike, survey
from kuosan.modalities.medical_told import counted, harmless
from kuosan.modalities.split import held_out_count

if TYPE_CHECKING:
    from kuosan.modalities.medical import MedicalModality

MANY = 32  # volumes from which a data set of small ones is one of volumes
SMALL = 32  # the longest side of those


def gather_scans(
    folder: Folder,
    kind: type[MedicalModality],
    like: MedicalModality | None = None,
    *,
    size: int | tuple[int, ...] | None = None,
    max_side: int | str = "auto",
    volume: str = "auto",
    spacing: float | None = None,
    span: str | None = None,
    moments: str = "first",
) -> Gathered:
    """Every scan of `folder` in the form of `like`, or in one chosen from the data.

    Args:
        size, max_side: sides, or the longest of them.
        volume: slices, volume, patches (of volumes, `medical_patches`) or auto, which is volumes where all are small
            and there are many.
        spacing: millimetres that all are brought to.
        span: "low..high" in units, outside of which values are clipped.
        moments: of volumes in time the first, or all.

    Raises `UserError` where there is nothing to read, or an option cannot be.
    """
    asked = _ends(span)
    series, failed = survey(folder, moments)
    series, strangers = alike(series, like.form.unit if like else None)
    choices: list[Choice] = []
    whole = like.form.volume if like else _volumes(series, volume, choices)
    left_out = list(strangers)
    if whole:
        left_out += [(one.entries[0].name, one.gap) for one in series if one.gap]
        series = [one for one in series if not one.gap]
    if not series:
        raise UserError(_nothing(folder, failed + left_out))
    if like is None:
        longest = max_side if isinstance(max_side, int) else None
        if volume == "patches":
            sides, median, told = choose_patch(whole_shapes(series, spacing), size, longest)
        else:
            shapes = [
                one.shape(whole) for one in series for _ in (one.frames if not whole and one.frames else (0,))
            ]
            sides, one = choose_sides(shapes, size, longest)
            median, told = (), [one]
        choices += told
    else:
        sides, spacing, median = like.form.sides, like.form.millimetres, like.form.scan
    inverted = like.form.inverted if like else 2 * sum(one.inverted for one in series) > len(series)
    found = fill(series, sides, spacing, inverted, whole=whole, cut=bool(median))
    failed += found.failed
    if not found.values:
        raise UserError(_nothing(folder, failed + left_out))
    storage = found.stacked()
    if like is None:
        form = replace(_described(found, sides, spacing, inverted, whole), scan=median)
        storage, form, more = _measured(storage, found, form, asked)
        choices += [*more, *_told(found, series, form)]
    else:
        form = like.form
        if form.unit == "relative":
            storage = relative(storage, found)
    if found.blank:
        blank = "patches" if form.patches else "slices"
        left_out.append((f"{found.blank:,} {blank}", "nothing is in them: one value throughout"))
    names = _names(folder, found, "patch" if form.patches else "slice")
    patients = [one.patient for one in found.series]
    columns, hidden = _columns(found, patients)
    sides_of, why, more = _held(found, patients, form.patches)
    for values in storage:
        values[:] = form.quantised(values)
    return Gathered(
        kind(form), placed(storage, found.places, form) if form.patches else torch.from_numpy(storage),
        found.hashes, names, columns, frozenset({CLASS}), sides_of, [""] * len(names), _histograms(found), failed,
        left_out, [*choices, *hidden, *more] if like is None else [], groups=patients,
        totals={"patients": float(len(set(patients))), "series": float(len({id(s) for s in found.series}))},
        split_why=why,
    )  # fmt: skip


def _ends(text: str | None) -> tuple[float, float] | None:
    """The two numbers of "low..high"."""
    if text is None:
        return None
    try:
        low, high = (float(part) for part in text.split(".."))
    except ValueError:
        low = high = 0.0
    if not low < high:
        raise UserError(f"data.span={text} is no range of values: write it like -160..240")
    return low, high


def _volumes(series: list[Series], asked: str, choices: list[Choice]) -> bool:
    """Whether items are volumes."""
    if asked not in ("auto", "slices", "volume", "patches"):
        raise UserError(f"data.volume cannot be {asked!r}: choose one of auto, slices, volume, patches.")
    if asked != "auto":
        return asked != "slices"
    small = [one for one in series if not one.gap and max(one.shape(True)) <= SMALL]
    if len(small) == len(series) >= MANY:
        choices.append(("volume", "volume", f"{len(small):,} volumes, none longer than {SMALL}"))
        return True
    choices.append(("volume", "slices", f"unless there are {MANY} volumes, none longer than {SMALL}"))
    return False


def _described(
    found: Filled, sides: tuple[int, ...], spacing: float | None, inverted: bool, whole: bool
) -> MedicalForm:
    """What headers and fitting tell of the form."""
    first = found.scans[0]
    known = [s for s in found.spacings if s is not None]
    codes = Counter("".join(codes_of(scan.affine)) for scan in found.scans if scan.affine is not None)
    windows = [scan.window for scan in found.scans if scan.window is not None]
    window = None
    if 2 * len(windows) > len(found.scans):
        dark, light = np.median(np.array(windows), axis=0).tolist()
        window = (dark, light)
    return MedicalForm(
        sides, 0.0, 1.0, first.unit, first.kind, all(scan.whole for scan in found.scans),
        tuple(float(n) for n in np.median(np.array(known), axis=0)) if known else (),
        (AXIAL if whole else codes.most_common(1)[0][0]) if codes else "",
        inverted, window, spacing, hashlib.sha256(b"".join(sorted(found.hashes))).hexdigest()[:8],
    )  # fmt: skip


def _measured(
    storage: Values, found: Filled, form: MedicalForm, asked: tuple[float, float] | None
) -> tuple[Values, MedicalForm, list[Choice]]:
    """What values tell: whether brightness is relative, and the range."""
    choices: list[Choice] = []
    if form.unit == "raw" and asked is None:
        tops = [top_of(storage, found, rows) for rows in rows_of(found)]
        low, high = np.quantile(tops, (0.05, 0.95))
        if high > APART * low:
            storage = relative(storage, found)
            form = replace(form, unit="relative", whole=False, window=None)
            why = f"scans are up to {high / low:.0f} times as bright as others: 1 is each one's own 99.8 % quantile"
            choices.append(("unit", "relative", why))
    form, more = choose_range(storage, form, asked)
    return storage, form, [*choices, *more]


def _told(found: Filled, series: Sequence[Series], form: MedicalForm) -> list[Choice]:
    """What of the data somebody should know who reads their numbers."""
    n = len(found.hashes)
    choices: list[Choice] = []
    if form.unit == "HU":
        choices.append(("unit", "HU", "Hounsfield units, by the files' slope and intercept"))
    elif form.unit == "raw":
        choices.append(("unit", "raw", "as stored: no file says what its values mean"))
    if form.spacing:
        words = "×".join(f"{s:.3g}" for s in form.spacing)
        far = [
            s
            for s in found.spacings
            if s is not None and max(abs(a / b - 1) for a, b in zip(s, form.spacing, strict=True)) > 0.05
        ]
        odd = f"; {len(far):,} of {n:,} differ by more than 5 %" if far else ""
        fitted = "" if form.patches else " after fitting"
        choices.append(("spacing", f"{words} mm", f"median{fitted}{odd}; data.spacing brings all to one"))
    if missing := sum(s is None for s in found.spacings):
        choices.append(("spacing", "unknown", f"{missing:,} of {n:,} do not say how large their pixels are"))
    if form.inverted:
        choices.append(("shown", "inverted", "MONOCHROME1: large values are dark; the values are kept"))
    if turned := sum(one.inverted != form.inverted for one in series):
        choices.append(
            (
                "turned values",
                f"{turned:,} of {len(series):,} series",
                "light and dark are the other way in most",
            )
        )
    if found.holes:
        choices.append(("NaN", f"{found.holes:,} scans", "what is not a number counts as the smallest value"))
    if several := [one for one in series if one.moments > 1 and one.moment == 0]:
        taken = "all" if any(one.moment for one in series) else "the first"
        choices.append(("volumes in time", taken, f"{len(several):,} files hold several; see data.moments"))
    return choices


def _names(folder: Folder, found: Filled, part: str) -> list[str]:
    """Of files that only count, where each is one item, the files' own; else numbers of patient, series and part."""
    files = [entry.name for entry in found.entries]
    if counted([entry.name for entry in folder.entries]) and len(set(files)) == len(files):
        return files
    patients: dict[bytes, int] = {}
    parts: dict[bytes, dict[int, int]] = {}
    for one in found.series:
        patients.setdefault(one.patient, len(patients) + 1)
        mine = parts.setdefault(one.patient, {})
        mine.setdefault(id(one), len(mine) + 1)
    wide, deep = len(str(len(patients))), len(str(max(found.numbers)))
    several = max(found.numbers) > 0
    out = []
    for one, number in zip(found.series, found.numbers, strict=True):
        name = f"patient {patients[one.patient]:0{wide}d}"
        if len(parts[one.patient]) > 1:
            name += f", series {parts[one.patient][id(one)]}"
        out.append(name + (f", {part} {number + 1:0{deep}d}" if several else ""))
    return out


def _columns(found: Filled, patients: list[bytes]) -> tuple[dict[str, list[str | None]], list[Choice]]:
    rows = [dict(entry.columns) for entry in found.entries]
    keys = dict.fromkeys(key for row in rows for key in row)
    return harmless(
        {key: [row.get(key) for row in rows] for key in keys}, patients, [one.known for one in found.series]
    )


def _held(found: Filled, patients: list[bytes], patches: bool) -> tuple[list[str], str, list[Choice]]:
    """The side of each item, why, and what to say of it: whole patients, or blocks of parts of a single one."""
    sides, n = [entry.side for entry in found.entries], len(patients)
    if "val" in sides:
        across = {p for p, s in zip(patients, sides, strict=True) if s == "val"} & {
            p for p, s in zip(patients, sides, strict=True) if s != "val"
        }
        why = "the data divides them itself; measures are too good by as much as their items are alike"
        return sides, "", [("patients on both sides", f"{len(across):,}", why)] if across else []
    wanted = held_out_count(n)
    of: dict[bytes, list[int]] = {}
    for i, patient in enumerate(patients):
        of.setdefault(patient, []).append(i)
    held: list[int] = []
    if len(of) > 1:
        order = sorted(
            of.values(),
            key=lambda rows: hashlib.sha256(b"".join(sorted(found.hashes[i] for i in rows))).digest(),
        )
        count = 0
        for rows in order:
            if len(held) + len(rows) <= wanted:
                held, count = [*held, *rows], count + 1
        if not held:
            held, count = min(order, key=len), 1
        why = "whole patients, chosen by the hash of what they hold"
        choices = [
            ("held-out patients", f"{count:,} of {len(of):,}", "all items of a patient stay on one side")
        ]
    elif wanted and n >= 8:
        size = max(1, wanted // 2)
        held = [i for start in (n // 3, 2 * n // 3) for i in (start + k for k in range(size))][
            : max(wanted, 1)
        ]
        parts = "patches, which share voxels with others," if patches else "slices,"
        why = f"blocks of neighbouring {parts} as there is one patient only"
        choices = [("patients", "1", "what is measured says nothing of other patients")]
    else:
        return sides, "", []
    chosen = set(held)
    return ["val" if i in chosen else "train" for i in range(n)], why, choices


def _histograms(found: Filled) -> dict[str, dict[str, int]]:
    sizes = Counter("×".join(map(str, scan.values.shape)) for scan in found.scans)
    kinds = Counter(f"{scan.kind} {scan.plane}".strip() for scan in found.scans)
    files = Counter("DICOM" if one.frames else "NIfTI" for one in found.series)
    return {"sizes": dict(sizes.most_common(20)), "modes": dict(kinds.most_common()), "dtypes": dict(files)}


def _nothing(folder: Folder, skipped: list[Skip]) -> str:
    reasons = "; ".join(f"{name}: {reason}" for name, reason in skipped[:3])
    return f"No scan in {folder.source} can be read ({reasons or 'there is none'}); mend them and try again."
