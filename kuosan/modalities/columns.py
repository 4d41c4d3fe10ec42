"""Conditions: which columns of a data set a model can be steered by, and the numbers of their values.

A column is a condition where it is categorical: at least two values, at most 1,000, and fewer distinct values
than half the rows that have one (a column of identifiers or of measurements is none).  The class that folders
or labels declare is one whatever its count.  Values are numbered in their natural order: 0, 1, 2, 10, bird.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Int64
from torch import Tensor

from kuosan.modalities.base import MANY_VALUES, Choice

Vocabulary = dict[str, tuple[str, ...]]
_LISTED = 5  # values in a note
_SHOWN = 60  # characters of a value in a note


def natural_key(value: str) -> tuple[int, int, str]:
    """Whole numbers first and by size, then texts."""
    digits = value[1:] if value.startswith("-") else value
    return (0, int(value), value) if digits.isdecimal() and digits.isascii() else (1, 0, value)


def choose_columns(
    columns: Mapping[str, Sequence[str | None]], declared: frozenset[str]
) -> tuple[Vocabulary, list[Choice]]:
    """The vocabulary of each column that is a condition, and why the others are not."""
    vocabulary: Vocabulary = {}
    choices: list[Choice] = []
    for name in sorted(columns):
        known = [value for value in columns[name] if value is not None]
        values = sorted(set(known), key=natural_key)
        count = f"{len(values):,} distinct values in {len(known):,} rows"
        if len(values) < 2:
            if known:
                choices.append((f"column {name}", "not a condition", f"it is always '{_short(values[0])}'"))
        elif name in declared or (len(values) <= MANY_VALUES and 2 * len(values) < len(known)):
            vocabulary[name] = tuple(values)
            choices.append((f"column {name}", "a condition", count))
        else:
            choices.append((f"column {name}", "not a condition", f"{count}: not categorical"))
    return vocabulary, choices


def grown_columns(
    columns: Mapping[str, Sequence[str | None]], known: Mapping[str, Sequence[str]]
) -> tuple[Vocabulary, list[Choice]]:
    """The vocabularies of a model, each with the values of these data that it lacks at its end, and what those are."""
    vocabulary: Vocabulary = {}
    choices: list[Choice] = []
    for name, values in known.items():
        here = {value for value in columns.get(name, ()) if value is not None}
        new = sorted(here - set(values), key=natural_key) if len(here) <= MANY_VALUES else []
        vocabulary[name] = (*values, *new)
        if new:
            listed = ", ".join(_short(value) for value in new[:_LISTED]) + (
                " …" if len(new) > _LISTED else ""
            )
            choices.append(
                (
                    f"column {name}",
                    f"{len(new):,} new values",
                    f"{listed}: they begin as the mean of the others",
                )
            )
    return vocabulary, choices


def _short(value: str) -> str:
    """A value in a sentence; a column may well hold whole essays."""
    return value if len(value) <= _SHOWN else value[: _SHOWN - 1] + "…"


def number_columns(
    columns: Mapping[str, Sequence[str | None]], vocabulary: Mapping[str, Sequence[str]], n: int
) -> dict[str, Int64[Tensor, "n"]]:
    """Each item's place in the vocabulary of each column; unknown is the length of the vocabulary."""
    numbered = {}
    for name, values in vocabulary.items():
        place = {value: index for index, value in enumerate(values)}
        items = columns.get(name, [None] * n)
        unknown = len(values)
        numbered[name] = torch.tensor([place.get(v, unknown) if v is not None else unknown for v in items])
        numbered[name] = numbered[name].to(torch.int64)
    return numbered
