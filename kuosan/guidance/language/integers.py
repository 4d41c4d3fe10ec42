"""Whole numbers between bounds, as regular expressions over their decimal digits."""

from __future__ import annotations


def integers(low: int | None, high: int | None) -> str:
    """An expression that matches exactly the integers from ``low`` to ``high`` (None: unbounded), without a leading
    zero or plus, and no ``-0``."""
    options = []
    if low is None or low < 0:  # mirrored: -9 … -3 is the minus before 3 … 9
        nearest = 1 if high is None or high >= 0 else -high
        options += [f"-{part}" for part in _naturals(nearest, None if low is None else -low)]
    if high is None or high >= 0:
        options += _naturals(max(low or 0, 0), high)
    return f"(?:{'|'.join(options)})"


def _naturals(low: int, high: int | None) -> list[str]:
    """One expression per number of digits; above the digits of ``low`` alone where there is no end."""
    digits = len(str(low))
    options = []
    for n in range(digits, len(str(high)) + 1 if high is not None else digits + 1):
        first = max(low, 10 ** (n - 1) if n > 1 else 0)
        last = 10**n - 1 if high is None else min(high, 10**n - 1)
        options.append(_same(str(first), str(last)))
    return options if high is not None else [*options, f"[1-9][0-9]{{{digits},}}"]


def _same(first: str, last: str) -> str:
    """The numbers from ``first`` to ``last``, which have equally many digits."""
    if not first:
        return ""
    more = len(first) - 1
    if first[0] == last[0]:
        return first[0] + _same(first[1:], last[1:])
    if first[1:] == "0" * more and last[1:] == "9" * more:
        return f"[{first[0]}-{last[0]}][0-9]{{{more}}}"
    options = [first[0] + _same(first[1:], "9" * more), last[0] + _same("0" * more, last[1:])]
    if int(last[0]) - int(first[0]) > 1:
        options.append(f"[{int(first[0]) + 1}-{int(last[0]) - 1}][0-9]{{{more}}}")
    return f"(?:{'|'.join(options)})"
