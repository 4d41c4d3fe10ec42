"""Small plans and forms for tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kuosan.modalities.plan_form import Form
from kuosan.modalities.plan_layout import Ints

LINKS = {("bedroom", "corridor"): 0.9, ("entrance", "outside"): 0.8, ("bathroom", "bedroom"): 0.3}


def some_form(step: float | None = None, lines: int = 6) -> Form:
    categories = {"bathroom": 2, "bedroom": 3, "corridor": 2, "entrance": 1, "kitchen": 1, "shaft": 2}
    return Form(lines, lines + 1, categories, 12, 40, step, 4, LINKS)


def random_states(form: Form, n: int, seed: int = 0) -> Ints:
    """Half of them of values that are possible in their places, half of any values at all, masks included."""
    generator = torch.Generator().manual_seed(seed)
    able = torch.multinomial(form.possible.float(), n // 2, replacement=True, generator=generator).T
    wild = torch.randint(0, form.size + 1, (n - n // 2, form.length), generator=generator)
    found: Ints = torch.cat([able, wild]).numpy()
    return found


def flat(width: float = 300, high: float = 200, seed: int = 0) -> list[list[Any]]:
    """Rows of a flat: a bedroom and a kitchen above a corridor, an entrance door below, a bathroom to the right."""
    rng = np.random.default_rng(seed)
    a, b = width * rng.uniform(0.4, 0.6), high * rng.uniform(0.55, 0.7)
    c = width * rng.uniform(0.7, 0.8)

    def wall(*v: float) -> list[Any]:
        return [*(round(x, 2) for x in v), "wall"]

    def door(*v: float) -> list[Any]:
        return [*(round(x, 2) for x in v), "door"]

    def word(x: float, y: float, name: str) -> list[Any]:
        return [round(x - 5, 2), round(y - 3, 2), round(x + 5, 2), round(y + 3, 2), name]

    return [
        wall(0, 0, width, 0), wall(width, 0, width, high), wall(width, high, 0, high), wall(0, high, 0, 0),
        wall(0, b, width, b), wall(a, 0, a, b), wall(c, b, c, high),
        door(a - 40, b, a - 10, b), door(a + 10, b, a + 40, b), door(c, b + 10, c, b + 40),
        door(20, high, 50, high), door(30, 0, 80, 0),
        word(a / 2, b / 2, "bedroom"), word((a + width) / 2, b / 2, "kitchen"),
        word(60, (b + high) / 2, "entrance"), word((c + width) / 2, (b + high) / 2, "bathroom"),
    ]  # fmt: skip


def plans_file(path: Path, n: int = 12) -> Path:
    lines = [json.dumps({"id": f"p{k}", "rows": flat(seed=k)}) for k in range(n)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path
