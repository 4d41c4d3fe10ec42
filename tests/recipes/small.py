"""A folder of made-up pictures and a run on it that takes seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from kuosan.recipes.opening import prepare
from kuosan.recipes.schema import Recipe
from kuosan.recipes.session import Session

CLASSES = ("flat", "steep", "wide")
COUNTS = {"flat": 24, "steep": 12, "wide": 18}
STEPS = 30
LEAVES: dict[str, Any] = {
    "network": "transformer",
    "network.patch": 4,
    "network.dim": 32,
    "network.depth": 1,
    "network.heads": 1,
    "training.batch": 8,
    "training.validations": 5,
}


def pictures(folder: Path, side: int = 8) -> Path:
    """Grey ramps, 8×8 unless told, in three classes, ``folder/CLASS/NN.png``."""
    rng = np.random.Generator(np.random.Philox(key=7))
    across, down = np.meshgrid(np.linspace(0, 1, side), np.linspace(0, 1, side))
    shapes = {"flat": 0 * across, "steep": down, "wide": across}
    for name, count in COUNTS.items():
        (folder / name).mkdir(parents=True)
        for i in range(count):
            x = 255 * (0.7 * shapes[name] + 0.3 * rng.random() + 0.02 * rng.random((side, side)))
            Image.fromarray(np.clip(x, 0, 255).astype(np.uint8)).save(folder / name / f"{i:02d}.png")
    return folder


def asked(**leaves: Any) -> dict[str, Any]:
    """What the command line would pass on."""
    words = {name.replace("__", "."): value for name, value in leaves.items()}
    return {"budget": f"{STEPS}steps", "seed": 0, "init": "", **LEAVES} | words


def session(data: Path, out: Path, **leaves: Any) -> Session:
    """`prepare` as the command line calls it."""
    words = asked(**leaves)
    return prepare(data, out=out, recipe=Recipe().updated(words), asked=words)
