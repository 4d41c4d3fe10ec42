"""Places along a side, as people write them."""

from __future__ import annotations

import re
from collections.abc import Mapping

from kuosan.errors import UserError


def places(text: str, axis: str, count: int, units: Mapping[str, float] | None = None) -> range:
    """See `Modality.places`.

    Args:
        units: places per unit, by the letters that follow a number: {"s": 50.0, "frames": 1.0}.

    Raises:
        UserError: places that there are not.
    """
    known = {"%": count / 100, **(units or {})}
    named = {"first": (0, 1), "last": (count - 1, count)}
    if text in named:
        return range(*named[text])
    ends: list[tuple[float, str]] = []
    for part in text.split("-"):
        found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-z%]*)\s*", part)
        if not found or found[2] not in ("", *known):
            ends = []
            break
        ends.append((float(found[1]), found[2]))
    unit = next((u for _, u in ends if u), "")  # "0-0.5s" is in seconds throughout
    numbers = [value * known.get(u or unit, 1.0) for value, u in ends]
    if len(numbers) == 2:
        span = range(round(numbers[0]), round(numbers[1]) + (not unit))
    else:
        span = range(round(numbers[0]), round(numbers[0]) + 1) if numbers and not unit else range(0)
    if not len(span) or span.stop > count:
        ways = ", ".join(["12", "3-8", "25%-50%", *(f"0-1{u}" for u in units or ()), "first", "last"])
        raise UserError(
            f"'{text}' means no places along {axis}, of which there are {count}: write it like one of {ways}"
        )
    return span
