"""Windows of one size that cover more places than one of them has."""

from __future__ import annotations

import math


def starts_of(n: int, side: int, overlap: float, grain: int = 1, cell: int = 1) -> list[int]:
    """Where windows of ``side`` begin along ``n`` places: as few as overlap by at least that part, evenly spread; at
    multiples of ``grain`` where both numbers are; or, with a ``cell`` above 1, not all at multiples of it, for which
    there may have to be one more.

    Raises:
        ValueError: there are fewer places than a window has.
    """
    if n < side:
        raise ValueError(f"{n} places are fewer than the {side} of a window")
    if grain > 1 and not (n % grain or side % grain):
        return [grain * i for i in starts_of(n // grain, side // grain, overlap)]
    step = max(1, math.floor(side * (1 - overlap)))
    gaps, more = -(-(n - side) // step), 0
    if cell > 1 and gaps and (n - side) % (gaps * cell) == 0:
        gaps, more = gaps + 1, cell // 2 if (n - side) % ((gaps + 1) * cell) == 0 else 0
    inner = [round(k * (n - side) / gaps) + more for k in range(1, gaps)]
    return [0, *inner, n - side] if gaps else [0]
