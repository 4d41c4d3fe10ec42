"""n-grams of many texts as numbers: equal numbers are equal n-grams, and none crosses the end of its text."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

Ints = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True)
class Grams:
    """All n-grams, text after text: their numbers (0 … different − 1) and the number of the text of each."""

    gram: Ints
    owner: Ints


def grams(tokens: Iterable[Iterable[str]], n: int) -> Grams:
    """n-grams, n ≥ 1, of texts that are given as tokens; texts of fewer tokens have none."""
    table: dict[str, int] = {}
    rows = [[table.setdefault(t, len(table)) for t in text] for text in tokens]
    single = np.array([i for row in rows for i in row], dtype=np.int64)
    owner = np.repeat(np.arange(len(rows)), [len(row) for row in rows])
    gram = single
    for k in range(1, n):
        # A pair of (n-gram so far, next token) gets a number of its own; those that leave their text are kept out last.
        gram = np.unique(gram[:-1] * max(1, len(table)) + single[k:], return_inverse=True)[1]
    inside = owner[: len(owner) - n + 1] == owner[n - 1 :] if len(owner) >= n else np.zeros(0, dtype=bool)
    gram = gram[: len(inside)][inside]
    return Grams(np.unique(gram, return_inverse=True)[1], owner[: len(inside)][inside])
