"""Models of shapes: samples beside held-out shapes, as sets and as things to print.

    python -m benchmarks.shapes DATA [DATA …] [--budget 20m] [--seeds 0 1] [-n 200] [--set data.size=16]

Trains on each folder with each seed, draws and measures, and writes results/shapes.md: what is measured, what real
shapes score at the same count, and how many of the written files somebody else's reader finds closed.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import trimesh

import kuosan
from benchmarks import table
from kuosan.recipes.schema import read_value

SHOWN = (
    "nna_chamfer", "coverage_chamfer", "mmd_chamfer", "watertight", "one_piece", "volume_gap", "area_gap",
    "copies_chamfer", "nearest_distance_chamfer", "fd_raw", "class_accuracy",
)  # fmt: skip
FILES = 50  # written and read again


def one(data: Path, budget: str, seed: int, n: int, leaves: dict[str, Any], folder: Path) -> dict[str, Any]:
    """What one run on ``data`` comes to."""
    asked = {"budget": budget, "seed": seed, **{k.replace(".", "__"): v for k, v in leaves.items()}}
    run = kuosan.train(data, out=folder / f"{data.name}-{seed}", **asked)
    found = run.evaluate(n=n)["metrics"]
    raws = run.sample(min(n, FILES), seed=seed).raws()
    closed = [
        trimesh.load(run.modality.write(raw, folder / f"{i:03d}.stl"), force="mesh").is_watertight
        for i, raw in enumerate(raws)
    ]
    found["STL files that trimesh finds closed"] = {
        "value": sum(closed) / len(closed), "stderr": None, "floor": 1.0, "n": len(closed)
    }  # fmt: skip
    return found


def rows(data: Path, runs: Sequence[dict[str, Any]]) -> list[list[object]]:
    """Means over seeds, with the spread between them where there are several."""
    found: list[list[object]] = []
    for name in (*SHOWN, "STL files that trimesh finds closed"):
        here = [run[name] for run in runs if name in run]
        if not here:
            continue
        values = [m["value"] for m in here]
        spread = statistics.stdev(values) if len(values) > 1 else here[0]["stderr"]
        value = f"{statistics.mean(values):.3f}" + (f" ± {spread:.3f}" if spread is not None else "")
        floor = here[0].get("floor")
        found.append(
            [data.name, name, value, "" if floor is None else f"{floor:.3f}", f"{here[0]['n']:,}", len(here)]
        )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", nargs="+", type=Path)
    parser.add_argument("--budget", default="20m")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("-n", type=int, default=200)
    parser.add_argument("--set", nargs="*", default=[], dest="leaves", metavar="part.key=value")
    parser.add_argument("--name", default="shapes", help="of the page of results")
    asked = parser.parse_args()
    leaves = {k: read_value(v) for k, _, v in (word.partition("=") for word in asked.leaves)}
    lines: list[list[object]] = []
    with tempfile.TemporaryDirectory() as place:
        for data in asked.data:
            runs = [one(data, asked.budget, seed, asked.n, leaves, Path(place)) for seed in asked.seeds]
            lines += rows(data, runs)
    said = ", ".join([f"budget {asked.budget}", f"{asked.n} samples", *asked.leaves])
    notes = (
        f"{said}; seeds {', '.join(map(str, asked.seeds))}. Real: held-out shapes against others, as many."
    )
    table.write(
        asked.name, "Samples of shapes", notes, ("data", "measure", "value", "real", "n", "runs"), lines
    )


if __name__ == "__main__":
    main()
