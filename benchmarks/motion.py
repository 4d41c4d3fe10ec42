"""Models of motions beside held-out motions: feet, jerk, limits, distances, variety.

    python -m benchmarks.motion DATA [DATA …]      trains on each for --budget and measures --n samples
    python -m benchmarks.motion --run RUN          measures a run that is there
    python -m benchmarks.motion --write DATA …     also writes results/motion.md

Every measure stands beside real motions at the same count, and beside the same samples as the network says them, whose
feet are not locked, and with joints limited too.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import torch

import kuosan
from benchmarks import table
from benchmarks.runs import leaves_of
from kuosan.evaluation.base import Measurement
from kuosan.evaluation.found import Evaluation
from kuosan.modalities import MotionModality
from kuosan.recipes.evaluate import data_of, measure, states
from kuosan.recipes.measures import with_own
from kuosan.recipes.run import Run

OWN = (
    "foot_skating", "jerk", "joint_limit_violations", "diversity", "fd_kinematics", "kd_kinematics",
    "coverage_kinematics",
)  # fmt: skip
ALL = (
    "fd_encoder",
    "precision",
    "recall",
    "density",
    "coverage",
    "class_accuracy",
    "copies",
    "nearest_distance",
)
HEADER = (
    "data",
    "measure",
    "value",
    "real motions",
    "ratio",
    "n",
    "with --no-foot-lock",
    "with --joint-limits",
)
SEED = 1_000_000


def rows(name: str, run: Run, n: int, steps: int | None, seconds: float) -> list[list[object]]:
    """A row of every measure of ``n`` samples."""
    data = data_of(run)
    samples = run.sample(n, steps=steps, seed=SEED)
    found = measure(run, data, samples, seconds=seconds)
    modality = run.modality
    assert isinstance(modality, MotionModality)
    empty, sides = Evaluation({}, (), {}, {}, {}), (states(data.train), states(data.val))
    ways = (modality.corrected(foot_lock=False), modality.corrected(foot_lock=True, joint_limits=True))
    others = [with_own(empty, modality, samples.x, *sides, 0, writes=way).metrics for way in ways]
    out: list[list[object]] = []
    for key in (*OWN, *ALL):
        if m := found.metrics.get(key):
            ratio = f"{m.value / m.floor:.2f}" if m.floor else ""
            more = [_shown(other[key]) if key in other else "" for other in others]
            out.append([name, key, _shown(m), "" if m.floor is None else f"{m.floor:.4g}", ratio, m.n, *more])
    return out


def _shown(m: Measurement) -> str:
    return f"{m.value:.4g}" + (f" ± {m.stderr:.2g}" if m.stderr is not None else "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", nargs="*", type=Path)
    parser.add_argument("--run", type=Path, action="append", default=[])
    parser.add_argument("--budget", default="20m")
    parser.add_argument("--n", type=int, default=500)
    parser.add_argument("--steps", type=int, default=None)
    parser.add_argument("--seconds", type=float, default=60.0, help="for the encoder of features")
    parser.add_argument("--set", nargs="*", default=[], help="leaves of the recipe: part.leaf=value")
    parser.add_argument("--write", action="store_true")
    asked = parser.parse_args()
    found: list[list[object]] = []
    notes: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        runs = [(path.name, Run(path)) for path in asked.run]
        for source in asked.data:
            began = time.process_time()
            run = kuosan.train(
                source, out=Path(folder) / source.name, budget=asked.budget, **leaves_of(asked.set)
            )
            spent = time.process_time() - began
            sizes = {k: v for k, v in run.facts.network.items() if k in ("patch", "dim", "depth")}
            network = ", ".join(f"{k} {v}" for k, v in sizes.items())
            notes.append(
                f"{source.name}: {run.facts.items:,} {run.modality.described_form()}, {network}, "
                f"budget {asked.budget}, {spent:.0f} s of processor time on {torch.get_num_threads()} threads."
            )
            runs.append((source.name, run))
        for name, run in runs:
            found += rows(name, run, asked.n, asked.steps, asked.seconds)
    title = "Motions: samples beside held-out motions"
    if asked.write:
        table.write("motion", title, "\n".join(notes), HEADER, found)
        return
    print("\n".join([*notes, "", "| " + " | ".join(HEADER) + " |", "|" + "---|" * len(HEADER)]))
    for row in found:
        print("| " + " | ".join(map(str, row)) + " |")


if __name__ == "__main__":
    main()
