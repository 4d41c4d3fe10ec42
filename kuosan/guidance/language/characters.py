"""Sets of characters, as intervals of code points.

A class such as ``[^x]`` holds a million characters, so nothing here lists them: a set is a tuple of disjoint,
rising intervals (first, last). What an automaton reads is not a character but its *class*: all sets that a
pattern mentions cut the code points into pieces, and pieces that lie in the same sets behave alike.

Only properties that Unicode tabulates (letters, digits, white space, letter case) are read off the
characters themselves, once, when a pattern first asks for them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

TOP = 0x110000  # one past the last code point
Set = tuple[tuple[int, int], ...]
"""Disjoint, rising intervals of code points that do not touch, both ends included."""

EVERY: Set = ((0, TOP - 1),)


def union(intervals: Iterable[tuple[int, int]]) -> Set:
    """The normal form of any intervals."""
    out: list[tuple[int, int]] = []
    for first, last in sorted(intervals):
        if out and first <= out[-1][1] + 1:
            out[-1] = (out[-1][0], max(out[-1][1], last))
        else:
            out.append((first, last))
    return tuple(out)


def complement(chars: Set) -> Set:
    """All other characters."""
    starts = [0, *(last + 1 for _, last in chars)]
    ends = [*(first - 1 for first, _ in chars), TOP - 1]
    return tuple((a, b) for a, b in zip(starts, ends, strict=True) if a <= b)


@dataclass(frozen=True)
class Classes:
    """A partition of the code points: ``labels[i]`` is the class of all from ``starts[i]`` up to the next start."""

    starts: NDArray[np.int64]
    labels: NDArray[np.int64]

    @property
    def count(self) -> int:
        return int(self.labels.max()) + 1

    def of(self, text: str) -> NDArray[np.int64]:
        """The class of each character."""
        points = np.array([ord(c) for c in text], dtype=np.int64)
        return self.labels[np.searchsorted(self.starts, points, side="right") - 1]

    def intervals(self) -> list[tuple[int, int, int]]:
        """(first, last, class), in order, covering every code point."""
        ends = [*(self.starts[1:] - 1).tolist(), TOP - 1]
        return list(zip(self.starts.tolist(), ends, self.labels.tolist(), strict=True))


def partition(sets: Sequence[Set]) -> tuple[Classes, list[list[int]]]:
    """The coarsest classes that respect every set, and the classes that each set consists of."""
    starts = np.array(sorted({0, *(p for s in sets for a, b in s for p in (a, b + 1) if p < TOP)}))
    inside = np.zeros(
        (len(starts), len(sets) + 1), dtype=bool
    )  # one column more: no set at all has one class
    for j, chars in enumerate(sets):
        for first, last in chars:
            a, b = np.searchsorted(starts, (first, last + 1))
            inside[a:b, j] = True
    kinds, labels = np.unique(inside, axis=0, return_inverse=True)
    return Classes(starts, labels.reshape(-1)), [
        np.flatnonzero(kinds[:, j]).tolist() for j in range(len(sets))
    ]


def common(a: Classes, b: Classes) -> tuple[Classes, NDArray[np.int64], NDArray[np.int64]]:
    """The coarsest refinement of two partitions; for each of its classes the one of ``a`` and the one of ``b``."""
    starts = np.union1d(a.starts, b.starts)
    of_a = a.labels[np.searchsorted(a.starts, starts, side="right") - 1]
    of_b = b.labels[np.searchsorted(b.starts, starts, side="right") - 1]
    pairs, labels = np.unique(of_a * b.count + of_b, return_inverse=True)
    return Classes(starts, labels.reshape(-1)), pairs // b.count, pairs % b.count


def _those(test: Callable[[str], bool]) -> Set:
    return union((c, c) for c in range(TOP) if test(chr(c)))


@cache
def words() -> Set:
    r"""``\w``: letters, digits and the underscore of every script."""
    return _those(lambda c: c.isalnum() or c == "_")


@cache
def digits() -> Set:
    r"""``\d``: the decimal digits of every script."""
    return _those(str.isdecimal)


@cache
def spaces() -> Set:
    r"""``\s``: white space."""
    return _those(str.isspace)


@cache
def _variants() -> dict[int, frozenset[int]]:
    """Every character that has other cases → all of them, itself included (k, K and the Kelvin sign)."""
    group: dict[int, set[int]] = {}
    for c in range(0x1E944):  # Adlam is the last script with letter case
        for other in {chr(c).lower(), chr(c).upper(), chr(c).title()} - {chr(c)}:
            if len(other) == 1:  # "ß".upper() has two letters, which no pattern of one matches
                both = group.get(c, {c}) | group.get(ord(other), {ord(other)})
                group.update((member, both) for member in both)
    return {c: frozenset(members) for c, members in group.items()}


def any_case(chars: Set) -> Set:
    """The set and every other case of its members."""
    cased = _variants()
    hit = [c for c in cased if any(first <= c <= last for first, last in chars)]
    return union([*chars, *((v, v) for c in hit for v in cased[c])])
