"""Adapters beside training all weights: what the same steps on new data come to, and what is left of the old.

    python -m benchmarks.adapters [--steps 120] [--batch 64] [--base 600 | --run RUN]

The old model draws digits; the new data are the same digits in negative, as classes of their own. Every arm makes the
same steps from the same seed. Losses are of held-out items, old and new, with standard errors over items.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import kuosan
from benchmarks import table
from kuosan.recipes import report_drift
from kuosan.recipes.demo import write_digits
from kuosan.recipes.opening import prepare
from kuosan.recipes.report import log_rows
from kuosan.recipes.run import Run
from kuosan.recipes.schema import Recipe
from kuosan.recipes.session import METRICS

ARMS: dict[str, dict[str, Any]] = {
    "all weights, 1e-4": {"adapter.rank": 0, "training.lr": 1e-4},
    "all weights, 1e-3": {"adapter.rank": 0, "training.lr": 1e-3},
    "rank 8, blocks, 1e-3": {"adapter.rank": 8, "adapter.targets": "blocks", "training.lr": 1e-3},
    "rank 8, blocks, 4e-3": {"adapter.rank": 8, "adapter.targets": "blocks", "training.lr": 4e-3},
    "rank 8, all, 4e-3": {"adapter.rank": 8, "adapter.targets": "all", "training.lr": 4e-3},
    "rank 8, all, 1e-2": {"adapter.rank": 8, "adapter.targets": "all", "training.lr": 1e-2},
    "rank 8, attention, 4e-3": {"adapter.rank": 8, "adapter.targets": "attention", "training.lr": 4e-3},
    "rank 32, all, 4e-3": {"adapter.rank": 32, "adapter.targets": "all", "training.lr": 4e-3},
    "rank 8, all, 4e-3, no old samples": {
        "adapter.rank": 8, "adapter.targets": "all", "training.lr": 4e-3, "adapter.prior": 0.0,
    },
}  # fmt: skip


def negatives(digits: Path, folder: Path) -> Path:
    """Every fourth digit, black for white, as class no0 … no9."""
    for i, path in enumerate(sorted(digits.rglob("*.png"))):
        if i % 4 == 0:
            out = folder / path.parts[-3] / f"no{path.parts[-2]}" / path.name
            out.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(255 - np.asarray(Image.open(path))).save(out)
    return folder


def arm(base: Run, new: Path, out: Path, steps: int, leaves: dict[str, Any]) -> dict[str, Any]:
    """One arm: what it comes to."""
    words = {
        "budget": f"{steps}steps",
        "seed": 0,
        "init": str(base.path),
        "training.validations": 4,
        **leaves,
    }
    session = prepare(new, out=out, recipe=Recipe().updated(words), asked=words)
    session.rehearse()
    started = time.process_time()
    for _ in session.steps():
        pass
    took = (time.process_time() - started) / steps
    session.write_weights("best")
    trained = sum(p.numel() for p in session.training.parameters)
    session.adapter = session.adapter or object()  # type: ignore[assignment]  # drift is measured of all weights too
    drift = report_drift.drift_of(session)
    assert drift is not None
    return {"drift": drift, "took": took, "trained": trained}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--base", type=int, default=600)
    parser.add_argument("--run", type=Path)
    asked = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        digits = write_digits(place / "digits")
        new = negatives(digits, place / "negatives")
        network = {"network": "transformer", "network__patch": 2, "network__dim": 96, "network__depth": 3}
        base = (
            Run(asked.run)
            if asked.run
            else kuosan.train(digits, out=place / "base", budget=f"{asked.base}steps", **network)
        )
        told = log_rows(base.path / METRICS)[-1]
        for name, leaves in ARMS.items():
            found = arm(
                base,
                new,
                place / name.replace(" ", "").replace(",", "-"),
                asked.steps,
                leaves | {"training.batch": asked.batch},
            )
            drift = found["drift"]
            before, after = drift.losses["the new data"]["before"], drift.losses["the new data"]["after"]
            old, kept = drift.losses["the old data"]["before"], drift.losses["the old data"]["after"]
            cells = [f"{v.loss:.4f} ± {v.stderr:.4f}" for v in (before, after, old, kept)]
            rows.append((name, f"{found['trained']:,}", *cells, f"{drift.value:.2f} ± {drift.stderr:.2f}",
                         f"{1000 * found['took']:.0f} ms"))  # fmt: skip
            print(*rows[-1], flush=True)
    header = ("arm", "trained", "new, before", "new, after", "old, before", "old, after", "drift", "a step")
    notes = (__doc__ or "").split("\n\n")[2].strip().replace("\n", " ") + (
        f" Here {asked.steps} steps of {asked.batch} for {base.facts.items // 4:,} new items, {after.n} held-out ones; "
        f"the old model had made {told['step']:,} steps. `drift` is eq. 1 of `kuosan.recipes.report_drift`; a step is "
        "processor time, on a machine that many others used. One seed."
    )
    table.write("adapters", "Adapters and all weights", notes, header, rows)


if __name__ == "__main__":
    main()
