"""Budgets: how long a run may take, in time, steps or examples.

Written ``90s``, ``10m``, ``2h``, ``1h30m``, ``5000steps`` or ``3Mimages``. The learning rate follows the
progress through the budget. With a budget of steps or images a run is a function of its seed, to the bit;
with one of time it depends on the machine's speed, and the steps that were made are reported so that the
run can be repeated exactly.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from kuosan.errors import UserError

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_SCALE = {"": 1, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9}


@dataclass(frozen=True)
class Budget:
    """At most one of the three is not None."""

    seconds: float | None = None
    steps: int | None = None
    images: int | None = None

    @classmethod
    def parse(cls, text: str) -> Budget:
        """From the command line's form; UserError where it has none."""
        text = text.strip().replace(" ", "").replace("_", "")
        if found := re.fullmatch(r"([\d.]+)([kKMG]?)(steps?|images?|items?|examples?)", text):
            amount = int(_number(found[1], text) * _SCALE[found[2]])
            if amount < 1:
                raise UserError(
                    f"the budget {text!r} is not even one step: give a larger one, such as 1000steps"
                )
            return cls(steps=amount) if found[3].startswith("step") else cls(images=amount)
        if re.fullmatch(r"([\d.]+[smhd])+", text):
            seconds = sum(_number(n, text) * _UNITS[u] for n, u in re.findall(r"([\d.]+)([smhd])", text))
            if seconds > 0:
                return cls(seconds=seconds)
        raise UserError(f"the budget {text!r} is not understood: write 10m, 2h, 90s, 5000steps or 3Mimages")

    def steps_of(self, batch: int) -> int | None:
        """The number of steps with batches of ``batch``; None for a budget of time."""
        if self.images is not None:
            return max(1, -(-self.images // batch))
        return self.steps


def _number(text: str, whole: str) -> float:
    try:
        if math.isfinite(value := float(text)):
            return value
        raise ValueError("more than a float holds")
    except ValueError:
        raise UserError(
            f"the budget {whole!r} holds {text!r}, which is not a number: write 10m or 5000steps"
        ) from None


def clock(seconds: float) -> str:
    """A duration for people: 48 s, 4 min 10 s, 2 h 5 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s" if whole % 60 else f"{whole // 60} min"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
