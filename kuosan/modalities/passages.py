"""Works that are longer than a window: what stays together of their passages, and words for their lengths.

Where there are fewer than 40 works, long ones are divided into sections of consecutive passages, and whole sections are
held out: of one novel, or one symphony, about a twentieth, in several places.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

from kuosan.modalities.base import Choice

FEW_WORKS = 40
_SECTIONS, _LARGEST = 80, 16  # sections wanted at least, and passages in one at most


def sections(
    counts: Sequence[int], divide: bool, what: str, few: int = FEW_WORKS
) -> tuple[int, list[Choice]]:
    """How many passages of a work stay together, of works of so many passages: 0 for all of them, as always from `few`
    works on."""
    if not divide or len(counts) >= few or max(counts) == 1:
        return 0, []
    size = max(1, min(_LARGEST, sum(counts) // _SECTIONS))
    so_many = f"{what} is" if len(counts) == 1 else f"{what}s are"
    why = f"{len(counts)} {so_many} too few to hold whole ones out"
    return size, [("kept together", f"sections of {size} passages" if size > 1 else "single passages", why)]


def spread(values: Sequence[Any], counts: Sequence[int]) -> list[Any]:
    """What is known of each work, for each of its passages."""
    return [value for value, count in zip(values, counts, strict=True) for _ in range(count)]


def powers(sizes: Any) -> dict[str, int]:
    """Works by their length, in powers of two."""
    found = Counter(max(0, math.ceil(math.log2(max(1, int(size))))) for size in sizes)
    return {f"{(1 << p - 1) + 1:,}–{1 << p:,}" if p > 1 else f"{1 << p}": found[p] for p in sorted(found)}
