"""Sixty-four flowers: what keeps a small network from learning them by heart.

    python -m benchmarks.little_data DATA/flowers32.npz [--rows FILE] [--seeds 2] [ARM …]

16×16 pictures, 64 to train on and 128 held out, drawn by the seed; 1,200 steps of 32, so 600 passes; a transformer of
patch 4, width 64, depth 2. Every arm takes the same steps from the same weights and sees the same items and noise. Rows
are appended to ``--rows`` as they come, and those that it holds are not made again.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.table import write
from kuosan.core.schedules import Cosine
from kuosan.denoisers.network import NetworkDenoiser
from kuosan.networks import build_network
from kuosan.processes.gaussian import GaussianProcess
from kuosan.training.augment import KINDS, WIDTH, Augmentation, Augmented
from kuosan.training.loop import Training
from kuosan.training.objective import Denoising
from kuosan.training.settings import Settings

SIDE, ITEMS, HELD_OUT, STEPS, BATCH = 16, 64, 128, 1200, 32
COLOURLESS = ("flip", "shift", "scale")
ARMS: dict[str, dict[str, Any]] = {
    "plain": {},
    "dropout .1": {"dropout": 0.1},
    "decay .1": {"weight_decay": 0.1},
    "small": {"dim": 32},
    "flip": {"kinds": ("flip",)},
    "fgc": {"kinds": (*COLOURLESS, "colour")},
    "all": {"kinds": KINDS},
    "all p.4": {"kinds": KINDS, "p": 0.4},
    "all+dropout .1": {"kinds": KINDS, "dropout": 0.1},
    "all+decay .1": {"kinds": KINDS, "weight_decay": 0.1},
}
WORDS = {
    "plain": "nothing", "small": "half the width, narrower than a patch",
    "fgc": "all augmentations but turns", "all": "all augmentations",
    "all p.4": "all, probability 0.4", "flip": "mirrors alone", "dropout .1": "dropout 0.1",
    "decay .1": "weight decay 0.1",
    "all+dropout .1": "all augmentations, dropout 0.1", "all+decay .1": "all augmentations, weight decay 0.1",
}  # fmt: skip


class Pictures:
    """Some pictures, without conditions."""

    def __init__(self, x: Tensor):
        self.x = x

    def __len__(self) -> int:
        return len(self.x)

    def batch(self, index: Tensor, seeds: object = None) -> tuple[Tensor, dict[str, Tensor]]:
        return self.x[index], {}


def read(path: Path, seed: int) -> tuple[Pictures, Pictures]:
    """To train on, and held out."""
    with np.load(path) as held:
        x = torch.from_numpy(held["images" if "images" in held else held.files[0]]).float()
    x = x.permute(0, 3, 1, 2) if x.shape[-1] == 3 else x
    x = F.interpolate(x / 127.5 - 1, (SIDE, SIDE), mode="area")
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))
    return Pictures(x[order[:ITEMS]]), Pictures(x[order[ITEMS : ITEMS + HELD_OUT]])


def row(path: Path, name: str, seed: int) -> dict[str, Any]:
    """One training: its held-out losses."""
    arm = ARMS[name]
    train, val = read(path, seed)
    dim = arm.get("dim", 64)
    spec = {
        "kind": "transformer", "channels": 3, "sides": [SIDE, SIDE], "patch": 4, "dim": dim, "depth": 2,
        "heads": 2, "dropout": arm.get("dropout", 0.0), "augment": WIDTH if "kinds" in arm else 0,
    }  # fmt: skip
    network = build_network(spec, torch.Generator().manual_seed(seed))
    denoiser = NetworkDenoiser(GaussianProcess(Cosine()), network)
    how = Augmentation(arm["kinds"], arm.get("p", 0.15)) if "kinds" in arm else None
    settings = Settings(
        seed=seed, batch=BATCH, lr=5e-3 * (96 / dim) ** 0.5, steps=STEPS, validations=10, patience=0, decay=0.6,
        save_seconds=1e9, weight_decay=arm.get("weight_decay", 0.01), ema=0.08,
    )  # fmt: skip
    started = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        items = Augmented(train, how) if how else train
        training = Training(denoiser, Denoising(), items, val, settings, Path(folder))
        seen = [(e.step, e.validation.loss, e.validation.stderr) for e in training.run() if e.validation]
    best = min(seen, key=lambda found: found[1])
    cpu = round(time.process_time() - started, 1)
    return {
        "arm": name,
        "seed": seed,
        "best": best,
        "last": seen[-1],
        "curve": [v[1] for v in seen],
        "cpu": cpu,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("arms", nargs="*")
    parser.add_argument("--rows", type=Path)
    parser.add_argument("--seeds", type=int, default=2, help="0: only the table of the rows that there are")
    asked = parser.parse_args()
    rows: list[dict[str, Any]] = []
    if asked.rows and asked.rows.is_file():
        rows = [json.loads(line) for line in asked.rows.read_text(encoding="utf-8").splitlines()]
    made = {(r["arm"], r["seed"]) for r in rows}
    for seed in range(asked.seeds):
        for name in asked.arms or ARMS:
            if (name, seed) not in made:
                rows.append(row(asked.data, name, seed))
                if asked.rows:
                    with asked.rows.open("a", encoding="utf-8") as file:
                        file.write(json.dumps(rows[-1]) + "\n")
    plain = {r["seed"]: r for r in rows if r["arm"] == "plain"}
    table = []
    for name in [n for n in ARMS if any(r["arm"] == n for r in rows)]:
        mine = [r for r in rows if r["arm"] == name]
        ratio = statistics.mean(r["last"][1] / plain[r["seed"]]["last"][1] for r in mine)
        cells = [" ".join(f"{r[what][1]:.4f}" for r in mine) for what in ("last", "best")]
        seeds = " ".join(str(r["seed"]) for r in mine)
        table.append(
            [
                WORDS[name],
                seeds,
                *cells,
                f"{100 * (ratio - 1):+.1f} %",
                f"{statistics.mean(r['cpu'] for r in mine):.0f}",
            ]
        )
    notes = (
        f"`python -m benchmarks.little_data`. {ITEMS} flowers of {SIDE}×{SIDE} to train on, {HELD_OUT} held out, "
        f"{STEPS:,} steps of {BATCH}: {STEPS * BATCH // ITEMS} passes. Held-out error of v of the averaged weights at "
        "the end and at its best, a number per seed (same items, weights and noise for all arms); the standard error "
        "over items is 0.006, but it is shared by all arms. Seconds of one shared core."
    )
    write(
        "little_data",
        "Sixty-four flowers",
        notes,
        ["what", "seeds", "at the end", "at best", "against nothing", "s"],
        table,
    )


if __name__ == "__main__":
    main()
