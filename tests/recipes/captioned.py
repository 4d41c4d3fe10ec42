"""Made-up pictures with captions: one colour above another, and a run on them that takes seconds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from kuosan.recipes.opening import prepare
from kuosan.recipes.run import Run
from kuosan.recipes.schema import Recipe
from kuosan.recipes.session import Session

COLOURS = {
    "red": (220, 40, 40), "green": (40, 170, 60), "blue": (50, 80, 220), "yellow": (235, 200, 40),
    "white": (250, 250, 250), "black": (10, 10, 10),
}  # fmt: skip
LEAVES: dict[str, Any] = {
    "network": "transformer", "network.patch": 4, "network.dim": 64, "network.depth": 1, "network.heads": 2,
    "caption.dim": 32, "caption.depth": 1, "training.batch": 32, "training.validations": 2, "sampling.steps": 3,
}  # fmt: skip


def trained(session: Session) -> Run:
    """The run of a session that is not measured at its end."""
    for _ in session.steps():
        pass
    session.write_weights("now")
    return Run(session.run.path)


def session(data: Path, out: Path, **leaves: Any) -> Session:
    words = {"seed": 0, "init": "", **LEAVES} | {k.replace("__", "."): v for k, v in leaves.items()}
    return prepare(data, out=out, recipe=Recipe().updated(words), asked=words)


def state(above: str, below: str) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """8×8 pixels."""
    x = np.zeros((8, 8, 3), np.uint8)
    x[:4], x[4:] = COLOURS[above], COLOURS[below]
    return x


def rows(n: int = 180) -> list[tuple[str, str]]:
    """Colours above and below, every pair about as often as any other."""
    rng = np.random.Generator(np.random.Philox(key=5))
    names = list(COLOURS)
    return [(names[i], names[j]) for i, j in rng.integers(len(names), size=(n, 2))]


def caption(above: str, below: str) -> str:
    return f"a {above} half above a {below} half"


def pictures(folder: Path, n: int = 180) -> Path:
    """``folder/NNN.png`` with metadata.jsonl."""
    folder.mkdir(parents=True)
    rng = np.random.Generator(np.random.Philox(key=6))
    lines = []
    for i, (above, below) in enumerate(rows(n)):
        x = state(above, below).astype(float) + rng.integers(-6, 7, size=(8, 8, 3))
        Image.fromarray(np.clip(x, 0, 255).astype(np.uint8)).save(folder / f"{i:03d}.png")
        lines.append(json.dumps({"file_name": f"{i:03d}.png", "text": caption(above, below)}))
    (folder / "metadata.jsonl").write_text("\n".join(lines) + "\n")
    return folder
