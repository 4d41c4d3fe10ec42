"""What may be said of medical files: of folders, files and tables nothing that could name a person.

files        are called by their numbers, in the order of their names, unless those count already (000.dcm, 001.dcm)
conditions   a folder or a value that fewer than `SHARED` patients have tells who they are and is no condition; nor
             is a date, or a column that is about names, numbers or dates; one about patients tells them apart
patients     where nobody says who an item is of, a folder of fewer than `MANY` files is taken for one patient's,
             and in a larger one every file for another's; a value must then be shared by as many
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Sequence
from dataclasses import replace

from kuosan.modalities.base import Choice, Skip
from kuosan.modalities.folder import Folder
from kuosan.modalities.kinds import kind_of

SHARED, MANY = 2, 10
_PERSON = re.compile(r"(^|[^a-z])(patient|subject|participant|person|case)($|[^a-z])", re.IGNORECASE)
_ABOUT = re.compile(
    r"name|birth|date|(^|_|\b)(dob|mrn|uid|id|ids|accession|address|phone|email|ssn|time|study|series|hospital|"
    r"institution|physician|operator)(_|\b|$)",
    re.IGNORECASE,
)
_DATE = re.compile(r"^(19|20)\d{6}$|^\d{1,4}[-./]\d{1,2}[-./]\d{1,4}\b")
_COUNTED = re.compile(r"^\d[\d,]* files")


def anonymous(folder: Folder) -> Folder:
    """The folder with names that tell nothing of a person; where files are stays as it is."""
    names = sorted({entry.name for entry in folder.entries} | {name for name, _ in folder.failed})
    if counted(names):
        return folder
    number = {name: f"file {i} of {len(names)}" for i, name in enumerate(names, 1)}
    return replace(
        folder,
        entries=tuple(replace(entry, name=number[entry.name]) for entry in folder.entries),
        failed=tuple((number[name], reason) for name, reason in folder.failed),
        left_out=tuple(_unnamed(folder.left_out)),
    )


def counted(names: Sequence[str]) -> bool:
    """Whether names are 0, 1, 2, … or 1, 2, 3, … in one folder, which a count says as well."""
    stems = [_stem(name) for name in names]
    if not all(stem.isascii() and stem.isdigit() for stem in stems):
        return False
    numbers = sorted(int(stem) for stem in stems)
    return (
        bool(numbers)
        and numbers[0] in (0, 1)
        and numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    )


def _stem(name: str) -> str:
    stem = name[: -len(".nii.gz")] if name.lower().endswith(".nii.gz") else posixpath.splitext(name)[0]
    return stem if kind_of(name) else name


def _unnamed(skips: Sequence[Skip]) -> list[Skip]:
    """What was left alone, without names: those of tables, of files and of where links lead."""
    out: dict[Skip, None] = {}
    for name, reason in skips:
        link = "a link to what is read already" if reason.startswith("a link to") else reason
        out[(name if _COUNTED.match(name) else "something else"), link] = None
    return list(out)


def person_of(columns: dict[str, str | None]) -> str:
    """Who an item is of, as far as a table says."""
    return "|".join(
        f"{value}" for name, value in sorted(columns.items()) if _PERSON.search(_spaced(name)) and value
    )


def _spaced(name: str) -> str:
    return re.sub(r"[_-]+", " ", name)


def harmless(
    columns: dict[str, list[str | None]], patients: Sequence[bytes], known: Sequence[bool]
) -> tuple[dict[str, list[str | None]], list[Choice]]:
    """Columns whose values tell nobody, one value per item of these patients, `known` or guessed, and what was taken
    away."""
    kept: dict[str, list[str | None]] = {}
    choices: list[Choice] = []
    for name, values in columns.items():
        if _ABOUT.search(name) or _PERSON.search(_spaced(name)):
            choices.append((f"column {name}", "left out", "it is about persons or dates"))
            continue
        of: dict[str, tuple[set[bytes], set[bytes]]] = {}
        for value, patient, sure in zip(values, patients, known, strict=True):
            if value is not None:
                of.setdefault(value, (set(), set()))[not sure].add(patient)
        fine = {
            value
            for value, (sure, guessed) in of.items()
            if (len(sure) >= SHARED or len(guessed) >= MANY) and not _DATE.match(value)
        }
        if hidden := len(of) - len(fine):
            why = f"each is of fewer than {SHARED} patients (of {MANY} where these are guessed), or a date"
            choices.append((f"values of {name}", f"{hidden:,} of {len(of):,} hidden", why))
        if fine:
            kept[name] = [value if value in fine else None for value in values]
    return kept, choices
