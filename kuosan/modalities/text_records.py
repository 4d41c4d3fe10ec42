"""Tables and records as texts: .jsonl, .json, .csv, .tsv and .parquet.

A *record* is a mapping of column names to values.  A line of .jsonl is one, a row of a table, and in .json an
element of an array; an object that holds an array of objects is looked into (a book with its poems), and what
it says about itself is said of each of them.

One column is the text: the one that is asked for, else the first of `TEXT_COLUMNS` that most records have,
else the string column with the longest values.  A list of strings is a text of lines; a list of turns
({"speaker": "A", "text": "Hello."}) is a text of lines "A: Hello.".  All other columns with single values
describe the text and may become conditions.

A table whose first row holds a number, a sentence (but a question) or something longer than a name has no row of
names: its columns are 1, 2, …
"""

from __future__ import annotations

import csv
import importlib
import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from kuosan.errors import UserError
from kuosan.modalities.base import Unreadable
from kuosan.modalities.tables import Row
from kuosan.modalities.text_encoding import decode_text

Record = Mapping[str, Any]
TEXT_COLUMNS = (
    "text", "content", "contents", "body", "paragraphs", "para", "lines", "dialogue", "dialog", "dialogues",
    "turns", "conversation", "conversations", "messages", "utterance", "utterances", "sentence", "sentences",
    "story", "poem", "lyrics", "article", "document", "passage", "review", "abstract", "summary", "comment",
    "message", "quote", "description", "caption",
)  # fmt: skip
SPEAKERS = ("speaker", "role", "from", "author", "name")
TURN_TEXTS = ("text", "content", "utterance", "value", "message")
_FIELD = re.compile(r"\{([^{}]+)\}")
_DELIMITERS = ",\t;|"
LONGEST_NAME = 80
_NUMBER = re.compile(r"[+-]?\d+([.,]\d+)?")
_SENTENCE = re.compile(
    r"\s.*[.!…]$|[。！]$", re.DOTALL
)  # questions are the names of columns in questionnaires


class NoText(Unreadable):
    """A file in order that holds no text: of a .json, which describes all kinds of things, no fault."""


def read_records(path: Path) -> list[Record]:
    """The records of a file, by its suffix.  Raises `Unreadable`, and `UserError` where pyarrow is missing."""
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        return _parquet(path)
    try:
        text = decode_text(path.read_bytes())
    except OSError as error:
        raise Unreadable(f"it cannot be opened ({error.strerror})") from None
    if suffix == ".jsonl":
        return list(_json_lines(text))
    if suffix == ".json":
        return list(_objects(_loads(text, "it"), {}))
    return _table(text, "\t" if suffix == ".tsv" else None)


def choose_column(records: Sequence[Record]) -> str:
    """The column that holds the text (module docstring).  Raises `NoText` where none does."""
    present: dict[str, int] = {}
    length: dict[str, int] = {}
    for record in records:
        for name, value in record.items():
            text = as_document(value)
            if text:
                present[name] = present.get(name, 0) + 1
                length[name] = length.get(name, 0) + len(text)
    for wanted in TEXT_COLUMNS:
        for name, count in present.items():
            if name.strip().lower() == wanted and 2 * count >= len(records):
                return name
    if not length:
        raise NoText("none of its columns holds text")
    return max(sorted(length), key=lambda name: length[name])


def split_record(record: Record, column: str) -> tuple[str, Row]:
    """The text of a record ("" where it has none), and all else that it says in single values.

    `column` is a name, or a template such as "{title}\\n{text}".
    """
    used = _FIELD.findall(column) or [column]
    if _FIELD.search(column):
        text = _FIELD.sub(lambda m: as_document(record.get(m[1])), column.replace("\\n", "\n"))
        text = text if any(as_document(record.get(name)) for name in used) else ""
    else:
        text = as_document(record.get(column))
    return text, {name: as_value(value) for name, value in record.items() if name not in used}


def missing_columns(records: Sequence[Record], column: str) -> list[str]:
    """The names in `column` that no record has."""
    known = {name for record in records for name in record}
    return [name for name in _FIELD.findall(column) or [column] if name not in known]


def as_document(value: Any) -> str:
    """A value as a text: a string, a list of lines, or a list of turns; "" where it is none of these."""
    if isinstance(value, str):
        return value.replace("\r\n", "\n")
    if isinstance(value, (list, tuple)):
        lines = [_turn(part) if isinstance(part, Mapping) else as_document(part) for part in value]
        return "\n".join(line for line in lines if line)
    return ""


def as_value(value: Any) -> str | None:
    """A value as a person would type it; a list of single values is one, joined by commas."""
    if isinstance(value, (list, tuple)):
        if not value or any(isinstance(part, (Mapping, list, tuple)) for part in value):
            return None
        return ", ".join(str(part) for part in value)
    if value is None or value == "" or isinstance(value, (Mapping, bytes)):
        return None
    return str(value).lower() if isinstance(value, bool) else str(value)


def _turn(turn: Record) -> str:
    names = {str(name).lower(): value for name, value in turn.items()}
    text = next((names[name] for name in TURN_TEXTS if isinstance(names.get(name), str)), "")
    who = next((names[name] for name in SPEAKERS if isinstance(names.get(name), str)), "")
    return f"{who}: {text}" if who and text else text


def _loads(text: str, what: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise Unreadable(f"{what} is not valid JSON ({error})") from None
    except RecursionError:
        raise Unreadable(f"{what} is JSON nested too deeply") from None


def _json_lines(text: str) -> Iterator[Record]:
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            record = _loads(line, f"line {number}")
            if isinstance(record, str):
                record = {"text": record}
            if not isinstance(record, dict):
                raise Unreadable(f"line {number} is not a JSON object")
            yield record


def _objects(value: Any, above: Record) -> Iterator[Record]:
    """All records in a JSON value, each with what the objects around it say of themselves."""
    if isinstance(value, list):
        if value and all(isinstance(part, str) for part in value):
            value = [{"text": part} for part in value]
        for part in value:
            if not isinstance(part, (dict, list)):
                raise NoText("its arrays hold neither objects nor texts only")
            yield from _objects(part, above)
    elif isinstance(value, dict):
        inner = [name for name, part in value.items() if _holds_objects(part) and not _are_turns(part)]
        plain = {name: part for name, part in value.items() if name not in inner}
        if len(value) > 1 and all(isinstance(part, dict) for part in value.values()):
            inner, plain = list(value), {}  # records by their names: {"id1": {…}, "id2": {…}}
            value = {name: [part] for name, part in value.items()}
        if not inner:
            yield {**above, **plain}
        for name in inner:
            yield from _objects(value[name], {**above, **plain})
    else:
        raise NoText("it is neither an array nor an object of records")


def _holds_objects(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(part, dict) for part in value)


def _are_turns(value: Sequence[Record]) -> bool:
    """Whether objects are the turns of one conversation: all of them say who speaks, and what."""
    names = [{str(name).lower() for name in turn} for turn in value]
    return all(turn & set(SPEAKERS[:3]) and turn & set(TURN_TEXTS) for turn in names)


def _table(text: str, delimiter: str | None) -> list[Record]:
    head = text.split("\n", 1)[0]
    if delimiter is None:
        delimiter = max(_DELIMITERS, key=head.count) if any(d in head for d in _DELIMITERS) else ","
    if delimiter == "\t" and _unquoted(text):
        return _named([line.split("\t") for line in text.split("\n") if line])
    before = csv.field_size_limit((1 << 31) - 1)  # a text may be longer than the 128 KiB that csv allows
    try:
        rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))
    except csv.Error as error:
        raise Unreadable(f"the table is damaged ({error})") from None
    finally:
        csv.field_size_limit(before)
    return _named([row for row in rows if row])


def _unquoted(text: str) -> bool:
    """Whether a table with tabs is one row a line, in which a quotation mark is a character like any other."""
    rows = [line.split("\t") for line in text.split("\n") if line]
    quoted = any(len(cell) > 1 and cell[0] == cell[-1] == '"' for row in rows for cell in row)
    return not quoted and len({len(row) for row in rows}) <= 1


def _named(rows: list[list[str]]) -> list[Record]:
    if not rows:
        return []
    if any(_no_name(cell.strip()) for cell in rows[0]):
        rows = [[str(k + 1) for k in range(max(map(len, rows)))], *rows]
    header = [name.strip() for name in rows[0]]
    if len(set(header)) < len(header) or not all(header):
        raise Unreadable("its first row does not name the columns: names are empty or occur twice")
    for number, row in enumerate(rows[1:], 2):
        if len(row) > len(header):
            raise Unreadable(
                f"row {number} of the table has {len(row)} cells where there are {len(header)} columns"
            )
    return [dict(zip(header, row, strict=False)) for row in rows[1:]]


def _no_name(cell: str) -> bool:
    """Whether nobody would call a column so: a number, a sentence or more."""
    return bool(_NUMBER.fullmatch(cell)) or len(cell) > LONGEST_NAME or bool(_SENTENCE.search(cell))


def _parquet(path: Path) -> list[Record]:
    try:
        parquet = importlib.import_module("pyarrow.parquet")
    except ImportError:
        raise UserError(
            f"Reading {path.name} needs pyarrow; install it with: pip install 'kuosan[parquet]'"
        ) from None
    try:
        rows: list[Record] = parquet.read_table(path).to_pylist()
    except Exception as error:  # pyarrow has no common error of its own
        raise Unreadable(
            f"it is not a Parquet file that can be read ({str(error).splitlines()[0]})"
        ) from None
    return rows
