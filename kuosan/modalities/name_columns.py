"""What the names of files say: `7_jackson_32.wav` is of class 7, by jackson, take 32.

A pattern has fields in braces and between them what stands there in every name, "{digit}_{speaker}_{take}"; the fields
are columns of the data, and what matches nothing has none of them.  A field in front of a separator ends at the first
one, the last field takes the rest.

A field or a column that numbers the takes of one thing (`RUNNING`) is no condition, under which a model would only
learn its items by heart.

The rule of "auto", where neither folders nor tables say anything: names are divided at _ and -, and of the fields that
all of them have, those are columns that have at least 2 values, one for every four files at most, and are no running
numbers behind the first.  The first is called class, a later one part2, part3 …
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Sequence
from dataclasses import replace

from kuosan.errors import UserError
from kuosan.modalities.base import Choice
from kuosan.modalities.folder import CLASS, Folder
from kuosan.modalities.tables import Row

_FIELD = re.compile(r"\{([A-Za-z]\w*)\}")
_SEPARATORS = re.compile(r"[_-]+")
FILES_PER_VALUE, FEWEST = 4, 8
RUNNING = frozenset({"take", "index", "id", "number", "no", "trial", "repetition", "repeat"})


def without_running(rows: Sequence[Row]) -> tuple[list[Row], list[Choice]]:
    """Rows without columns that only number things, and what these are."""
    found = sorted({name for row in rows for name in row if name.casefold() in RUNNING})
    kept = [{name: value for name, value in row.items() if name not in found} for row in rows]
    return kept, [
        (f"column {name}", "not a condition", "it numbers the takes of one thing") for name in found
    ]


def with_names(folder: Folder, pattern: str = "auto") -> tuple[Folder, list[Choice]]:
    """The folder with the columns that its files' names hold by a pattern, by the rule of "auto", or by "none".

    Raises `UserError` for a pattern that no name fits, or one without fields.
    """
    stems = [posixpath.splitext(posixpath.basename(entry.name))[0] for entry in folder.entries]
    if pattern == "none":
        return folder, []
    if pattern == "auto":
        if any(entry.columns or entry.path.suffix.lower() == ".npz" for entry in folder.entries):
            return folder, []
        columns = automatic(stems)
    else:
        columns = by_pattern(stems, pattern)
    if not columns:
        return folder, []
    rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    entries = tuple(
        replace(entry, columns={k: v for k, v in row.items() if v is not None} | entry.columns)
        for entry, row in zip(folder.entries, rows, strict=True)
    )
    why = (
        "asked for"
        if pattern != "auto"
        else "fields of the names; name them with data.names={digit}_{speaker}_…"
    )
    return replace(folder, entries=entries), [("file names", ", ".join(columns), why)]


def by_pattern(stems: Sequence[str], pattern: str) -> dict[str, list[str | None]]:
    """The fields of a pattern, of each name without its suffix; None where it does not fit."""
    parts = _FIELD.split(pattern)
    names = parts[1::2]
    if not names or len(set(names)) < len(names):
        raise UserError(
            f"data.names={pattern!r} has no fields, or one twice: write it like {{digit}}_{{speaker}}_{{take}}."
        )
    source = re.escape(parts[0])
    for k, between in enumerate(parts[2::2]):
        last = k == len(names) - 1
        source += (r"(.+)" if last and not between else r"(.+?)") + re.escape(between)
    found = [re.fullmatch(source, stem) for stem in stems]
    if not any(found):
        raise UserError(
            f"No file's name fits data.names={pattern!r}; the first one is {stems[0] if stems else 'missing'!r}."
        )
    return {name: [m[k + 1] if m else None for m in found] for k, name in enumerate(names)}


def automatic(stems: Sequence[str]) -> dict[str, list[str | None]]:
    """The columns that the rule of the module finds."""
    if len(stems) < FEWEST:
        return {}
    fields = [_SEPARATORS.split(stem) for stem in stems]
    columns: dict[str, list[str | None]] = {}
    for k in range(min(map(len, fields))):
        values = [field[k] for field in fields]
        kinds = set(values)
        running = k > 0 and all(value.isdecimal() for value in kinds)
        if 2 <= len(kinds) <= len(stems) / FILES_PER_VALUE and "" not in kinds and not running:
            columns[CLASS if not columns else f"part{k + 1}"] = list(values)
    return columns
