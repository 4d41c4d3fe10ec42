"""Tables of what arrays hold: a row for each item, in its order, or by its number.

An array has no file names that a metadata table could speak of.  Beside NAME.npz a table NAME.tsv, captions.tsv or
metadata.tsv (also .csv and .jsonl) without a column `file_name` describes the items of every array that has as many of
them as it has rows: those of a column `index` by number, else row by row.  It is found beside a single file too.
Arrays that one table describes are of the same items, in several sizes, of which the largest is read.
"""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kuosan.modalities.base import Skip, Unreadable
from kuosan.modalities.kinds import ARRAY, TABLES, kind_of
from kuosan.modalities.tables import FILE_NAME, Row, read_rows
from kuosan.modalities.walk import Found

STEMS, SUFFIXES = ("captions", "metadata"), (".tsv", ".csv", ".jsonl")
INDEX = "index"


@dataclass(frozen=True)
class ItemTable:
    """Columns of the items of the arrays in one folder, or of the one array of this ``stem``; ``name`` is the file."""

    name: str
    folder: str
    stem: str | None
    columns: dict[str, list[str | None]]
    rows: int

    def describes(self, name: str, items: int) -> bool:
        """Whether it is of the array file ``name`` with so many items."""
        folder, base = posixpath.split(name)
        stem = posixpath.splitext(base)[0]
        return folder == self.folder and self.stem in (None, stem) and items == self.rows


def find_tables(found: Sequence[Found], alone: Path | None) -> tuple[list[ItemTable], set[str], list[Skip]]:
    """The tables of arrays, the names of their files, and those that are damaged; ``alone`` is the one file that was
    asked for, beside which they may lie."""
    arrays = {f.name for f in found if f.kind == ARRAY}
    folders = {posixpath.dirname(name) for name in arrays}
    stems = {posixpath.splitext(name)[0] for name in arrays}
    files = {f.name: f.path for f in found}
    if alone is not None and arrays:
        for stem in (alone.stem, *STEMS):
            files |= {p.name: p for suffix in SUFFIXES if (p := alone.with_name(stem + suffix)).is_file()}
    tables: list[ItemTable] = []
    names: set[str] = set()
    damaged: list[Skip] = []
    for name, path in sorted(files.items()):
        whole, suffix = posixpath.splitext(name)
        folder, stem = posixpath.split(whole)
        general = stem.lower() in STEMS and folder in folders
        if suffix.lower() not in SUFFIXES or kind_of(name) == ARRAY or not (general or whole in stems):
            continue
        try:
            rows = read_rows(path, name)
        except Unreadable as error:
            if posixpath.basename(name).lower() not in TABLES:  # of which others tell
                damaged.append((name, error.reason))
                names.add(name)
            continue
        if rows and FILE_NAME not in rows[0]:
            tables.append(ItemTable(name, folder, None if general else stem, _columns(rows), len(rows)))
            names.add(name)
    return tables, names, damaged


def _columns(rows: list[Row]) -> dict[str, list[str | None]]:
    """Column by column, in the order of `INDEX` where that numbers the rows."""
    numbers = [row.get(INDEX) or "" for row in rows]
    if all(n.isdecimal() for n in numbers) and sorted(map(int, numbers)) == list(range(len(rows))):
        rows = [row for _, row in sorted(zip(map(int, numbers), rows, strict=True), key=lambda pair: pair[0])]
    keys = dict.fromkeys(key for row in rows for key in row if key != INDEX)
    return {key: [row.get(key) for row in rows] for key in keys}
