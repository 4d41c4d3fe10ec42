"""Side-car tables: captions in .txt files, columns in metadata.jsonl/.csv/.tsv, names in classes.json.

A metadata table has a column `file_name`, relative to the folder of the table (the form of Hugging Face's
"imagefolder" data sets); every other column describes the file.  A column called `text` or `caption` is its
caption.  Values are kept as text, as they stand; an empty cell is an unknown value.
"""

from __future__ import annotations

import csv
import json
import posixpath
from collections.abc import Iterator
from pathlib import Path

from kuosan.modalities.base import Unreadable

CAPTIONS = ("caption", "text")
FILE_NAME = "file_name"
Row = dict[str, str | None]


def read_table(path: Path, name: str) -> dict[str, Row]:
    """Rows by the name of the file that they describe (relative to the data folder, as `Found.name`).

    Raises `Unreadable` where the table is damaged or has no column `file_name`.
    """
    text = _text(path)
    folder = posixpath.dirname(name)
    rows: dict[str, Row] = {}
    for row in _rows(text, path, name):
        file_name = row.pop(FILE_NAME, None)
        if not file_name:
            raise Unreadable(f"a row of the table has no '{FILE_NAME}'", path)
        rows[posixpath.normpath(posixpath.join(folder, file_name.replace("\\", "/")))] = row
    return rows


def read_rows(path: Path, name: str) -> list[Row]:
    """All rows of a table, whatever its columns are.  Raises `Unreadable` where it is damaged."""
    return list(_rows(_text(path), path, name))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise Unreadable(f"the table cannot be read as UTF-8 text ({error})", path) from None


def _rows(text: str, path: Path, name: str) -> Iterator[Row]:
    return _json_rows(text, path) if name.lower().endswith(".jsonl") else _csv_rows(text, name, path)


def take_caption(row: Row) -> str:
    """Removes the caption columns from a row and returns the caption ("" where there is none)."""
    found = [row.pop(column, None) for column in CAPTIONS]
    return next((text for text in found if text), "")


def read_caption(path: Path) -> str:
    """The caption in a side-car file: its text with white space collapsed.  Raises `Unreadable`."""
    try:
        return " ".join(path.read_text(encoding="utf-8-sig").split())
    except (OSError, UnicodeDecodeError) as error:
        raise Unreadable(f"the caption cannot be read as UTF-8 text ({error})", path) from None


def read_class_names(path: Path) -> dict[str, str]:
    """classes.json: a list names the classes 0, 1, 2 …; an object maps the class text to its name."""
    try:
        names = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise Unreadable(f"the class names cannot be read as JSON ({error})", path) from None
    if isinstance(names, list):
        names = dict(enumerate(names))
    if not isinstance(names, dict) or not all(isinstance(name, str) for name in names.values()):
        raise Unreadable("the class names are neither a list of names nor an object of names", path)
    return {str(value): name for value, name in names.items()}


def _json_rows(text: str, path: Path) -> Iterator[Row]:
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        if not isinstance(row, dict):
            raise Unreadable(f"line {number} is not a JSON object", path)
        yield {key: _as_text(value) for key, value in row.items()}


def _csv_rows(text: str, name: str, path: Path) -> Iterator[Row]:
    delimiter = "\t" if name.lower().endswith(".tsv") else ","
    reader = csv.DictReader(text.splitlines(keepends=True), delimiter=delimiter)
    try:
        for row in reader:
            yield {key: (value or None) for key, value in row.items() if key is not None}
    except csv.Error as error:
        raise Unreadable(f"the table is damaged ({error})", path) from None


def _as_text(value: object) -> str | None:
    """A JSON value as the text a person would type for it; lists and objects are no single value."""
    if value is None or isinstance(value, (list, dict)):
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)
