"""Documents from files: what one text of the data is, and what is known about it.

A .txt or .md file is one document, or one per line or per paragraph where that is asked for (one big file of
poems); every record of a table is one (`text_records`).  Blank documents are left out and counted.

The sides are those of the folders train/ and val/.  Where folders say nothing, the files may: data sets of
text often come as train.txt, valid.txt and test.txt, or as Set-Training.csv and Set-Validation.csv.
"""

from __future__ import annotations

import posixpath
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from kuosan.errors import UserError
from kuosan.modalities.base import Choice, Skip, Unreadable
from kuosan.modalities.folder import Entry, Folder
from kuosan.modalities.kinds import ALONE
from kuosan.modalities.sides import LEFT, TEST, TRAIN, VAL, settle
from kuosan.modalities.tables import Row
from kuosan.modalities.text_encoding import decode_text
from kuosan.modalities.text_records import (
    TEXT_COLUMNS,
    NoText,
    choose_column,
    missing_columns,
    read_records,
    split_record,
)
from kuosan.modalities.tokeniser import without_surrogates

WHOLE = (".txt", ".md")  # files that are text as they stand
DIVISIONS = ("file", "line", "paragraph")
_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_BLANK_LINES = re.compile(r"\n[ \t]*(?:\n[ \t]*)+")


@dataclass(frozen=True)
class Document:
    """One text; `name` is its file's, with the number of the record or part where the file holds several."""

    name: str
    text: str
    columns: Row
    side: str


@dataclass(frozen=True)
class Documents:
    """All documents of a folder; `blank` counts those left out because nothing stands in them."""

    documents: list[Document]
    blank: int
    failed: list[Skip]
    left_out: list[Skip]
    choices: list[Choice]


def read_text(path: Path) -> str:
    """The text of a file, as it stands but for line ends (`text_encoding`).  Raises `Unreadable`."""
    try:
        return decode_text(path.read_bytes())
    except OSError as error:
        raise Unreadable(f"it cannot be opened ({error.strerror})") from None


def read_documents(folder: Folder, column: str | None = None, document: str = "file") -> Documents:
    """Every document of `folder`, in the order of the files and within them.

    `column` names the text of records (`split_record`), `document` says what one is in .txt and .md files.
    Raises `UserError` where `document` is no division.
    """
    if document not in DIVISIONS:
        raise UserError(f"'{document}' is not a way to divide a file; choose one of: {', '.join(DIVISIONS)}.")
    sides = _sides(folder.entries)
    documents: list[Document] = []
    failed: list[Skip] = []
    left_out: list[Skip] = []
    chosen = Counter[str]()
    blank = left = 0
    for entry in folder.entries:
        side = sides[entry.name]
        if side == LEFT:
            left += 1
            continue
        try:
            parts = _parts(entry, column, document, chosen)
        except Unreadable as error:
            harmless = isinstance(error, NoText) and posixpath.splitext(entry.name)[1].lower() in ALONE
            (left_out if harmless else failed).append((entry.name, error.reason))
            continue
        for name, text, columns in parts:
            if text.strip():
                documents.append(Document(name, without_surrogates(text), entry.columns | columns, side))
            else:
                blank += 1
    choices: list[Choice] = [
        ("text column", name, f"in {count:,} files" if count > 1 else "in one file")
        for name, count in chosen.most_common()
    ]
    if blank:
        choices.append(("blank documents", f"{blank:,} left out", "nothing stands in them"))
    if left:
        why = "kept for a later evaluation, since there is a validation part"
        left_out.append((f"{left} files of the test part", why))
    return Documents(documents, blank, failed, left_out, choices)


def _parts(
    entry: Entry, column: str | None, document: str, chosen: Counter[str]
) -> list[tuple[str, str, Row]]:
    """(name, text, columns) of every document in a file."""
    if entry.path.suffix.lower() in WHOLE:
        text = read_text(entry.path)
        if document == "file":
            return [(entry.name, text, {})]
        pieces = text.split("\n") if document == "line" else _BLANK_LINES.split(text.strip("\n"))
        return [(f"{entry.name}#{i}", piece, {}) for i, piece in enumerate(pieces) if piece.strip()]
    records = read_records(entry.path)
    if not records:
        return [(entry.name, "", {})]
    if column is None:
        name = choose_column(records)
        unknown = len(records) == 1 and name.strip().lower() not in TEXT_COLUMNS
        if unknown and entry.path.suffix.lower() in ALONE:
            raise NoText("it is one object, and none of its columns is known to hold a text")
        chosen[name] += 1
    else:
        name = column
        absent = missing_columns(records, column)
        if absent:
            known = ", ".join(dict.fromkeys(str(key) for record in records for key in record))
            raise Unreadable(f"it has no column '{absent[0]}' (there is: {known})")
    return [(f"{entry.name}#{i}", *split_record(record, name)) for i, record in enumerate(records)]


def _sides(entries: Sequence[Entry]) -> dict[str, str]:
    """The side of every file, by its folder, or by a word of its name where no folder says anything."""
    if any(entry.side for entry in entries):
        return {entry.name: entry.side for entry in entries}
    return settle({entry.name: next(_words(entry.name), "") for entry in entries})


def _words(name: str) -> Iterator[str]:
    """Which parts the words of a file's name speak of: "train", "val", "test"."""
    stem = posixpath.splitext(posixpath.basename(name))[0]
    for word in (word.lower() for word in _WORDS.findall(stem)):
        for said, words in (("train", TRAIN), ("val", VAL), ("test", TEST)):
            if word in words:
                yield said
