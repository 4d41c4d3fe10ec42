"""Models of shapes: samples beside held-out shapes, as sets and as things to print.

    python -m benchmarks.shapes DATA [DATA …] [--budget 20m] [--seeds 0 1] [-n 200] [--set data.size=16]

Trains on each folder with each seed, draws and measures, and writes results/shapes.md: what is measured, what real
shapes score at the same count, and how many of the written files somebody else's reader finds closed.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import trimesh

import kuosan
from benchmarks import table
from benchmarks.runs import HEADER, leaves_of, rows, trained

SHOWN = (
    "nna_chamfer", "coverage_chamfer", "mmd_chamfer", "watertight", "one_piece", "volume_gap", "area_gap",
    "spacing_gap", "copies_chamfer", "nearest_distance_chamfer", "fd_raw", "class_accuracy",
)  # fmt: skip
FILES = 50  # written and read again


CLOSED = "STL files that trimesh finds closed"


def one(run: kuosan.Run, n: int, seed: int, folder: Path) -> dict[str, Any]:
    """What a run comes to."""
    found = run.evaluate(n=n)["metrics"]
    raws = run.sample(min(n, FILES), seed=seed).raws()
    closed = [
        trimesh.load(run.modality.write(raw, folder / f"{i:03d}.stl"), force="mesh").is_watertight
        for i, raw in enumerate(raws)
    ]
    found[CLOSED] = {"value": sum(closed) / len(closed), "stderr": None, "floor": 1.0, "n": len(closed)}
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
    parser.add_argument("--out", help="where the runs lie; what is finished is not made again")
    parser.add_argument("--name", default="shapes", help="of the page of results")
    asked = parser.parse_args()
    lines: list[list[object]] = []
    folder = Path(asked.out or tempfile.mkdtemp())
    for data in asked.data:
        runs = []
        for seed in asked.seeds:
            out = folder / f"{data.name}-{seed}"
            run = trained(data, asked.budget, seed, leaves_of(asked.leaves), out)
            runs.append(one(run, asked.n, seed, folder))
        lines += rows(data.name, (*SHOWN, CLOSED), runs)
    said = ", ".join([f"budget {asked.budget}", f"{asked.n} samples", *asked.leaves])
    notes = (
        f"{said}; seeds {', '.join(map(str, asked.seeds))}. Real: held-out shapes against others, as many."
    )
    table.write(asked.name, "Samples of shapes", notes, HEADER, lines)


if __name__ == "__main__":
    main()
