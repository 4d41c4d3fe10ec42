"""A small run of latents, for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

import kuosan
from kuosan.recipes.opening import prepare
from kuosan.recipes.schema import Recipe
from kuosan.recipes.session import Session

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
STEPS, CODEC_STEPS = 8, 6
LEAVES: dict[str, Any] = {
    "budget": f"{STEPS}steps",
    "codec": "kl_vae",
    "codec.factor": 2,
    "codec.latent": 3,
    "codec.base": 4,
    "codec.steps": CODEC_STEPS,
    "codec.batch": 4,
    "codec.crop": 8,
    "network": "transformer",
    "network.patch": 2,
    "network.dim": 32,
    "network.depth": 1,
    "network.heads": 1,
    "training.batch": 8,
    "training.validations": 2,
    "training.save_seconds": 0.0,
    "sampling.steps": 2,
}


def pictures(folder: Path, count: int = 40, height: int = 12, width: int = 14) -> Path:
    """Discs in colour: in two classes, by their size."""
    rng = np.random.Generator(np.random.Philox(key=3))
    y, x = np.mgrid[:height, :width]
    for i in range(count):
        name, radius = (("small", 0.2), ("large", 0.35))[i % 2]
        cy, cx = rng.uniform(0.35, 0.65, 2) * (height, width)
        disc = 1 / (1 + np.exp(np.hypot(y - cy, x - cx) - radius * height))
        colour = 255 * disc[..., None] * rng.uniform(0.3, 1, 3)
        (folder / name).mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.rint(colour).astype(np.uint8)).save(folder / name / f"{i:03d}.png")
    return folder


def session(data: Path, out: Path, **leaves: Any) -> Session:
    asked = LEAVES | {name.replace("__", "."): value for name, value in leaves.items()}
    return prepare(data, out=out, recipe=Recipe().updated(asked), asked=asked)


def trained(data: Path, out: Path, **leaves: Any) -> kuosan.Run:
    words = {k.replace(".", "__"): v for k, v in LEAVES.items()} | leaves
    return kuosan.train(data, out=out, **words)
