"""Windows of one size that cover more places than one of them has."""

from __future__ import annotations

import math


def starts_of(n: int, side: int, overlap: float, grain: int = 1) -> list[int]:
    """Where windows of ``side`` begin along ``n`` places: as few as overlap by at least that part, evenly spread; at
    multiples of ``grain`` where both numbers are.

    Raises:
        ValueError: there are fewer places than a window has.
    """
    if n < side:
        raise ValueError(f"{n} places are fewer than the {side} of a window")
    if grain > 1 and not (n % grain or side % grain):
        return [grain * i for i in starts_of(n // grain, side // grain, overlap)]
    step = max(1, math.floor(side * (1 - overlap)))
    count = 1 + -(-(n - side) // step)
    return [round(k * (n - side) / max(1, count - 1)) for k in range(count)]
