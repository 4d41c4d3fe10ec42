"""What a run reaches: the demo on 8×8 digits, or `kuosan train` on a folder, with its budget kept.

    python -m benchmarks.quality demo
    python -m benchmarks.quality fashion ../shared/data/fashion_mnist --budget 10m

The table is the run's own evaluation: every measure beside the same measure of real held-out data at the same
n, and their ratio where both are distances.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.table import write
from kuosan.training.budget import Budget, clock


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name")
    parser.add_argument("data", nargs="?")
    parser.add_argument("--budget", default="")
    parser.add_argument("--out", default="")
    asked = parser.parse_args()
    out = Path(asked.out or tempfile.mkdtemp()) / asked.name
    words = ["train", asked.data] if asked.data else ["demo"]
    words += ["--budget", asked.budget] if asked.budget else []
    started = time.monotonic()
    subprocess.run(
        [sys.executable, "-m", "kuosan", *words, "--out", str(out)], check=True, stdout=subprocess.DEVNULL
    )
    wall = time.monotonic() - started
    summary = json.loads((out / "summary.json").read_text(encoding="utf-8"))
    about = json.loads((out / "evaluation.json").read_text(encoding="utf-8"))["about"]
    budget = Budget.parse(asked.budget).seconds if asked.budget else None
    kept = f" ({100 * (wall / budget - 1):+.1f} % of its budget of {clock(budget)})" if budget else ""
    rows = []
    for name, m in summary["metrics"].items():
        value, floor = m["value"], m.get("floor")
        ratio = f"{value / floor:.2f}" if floor and name.startswith(("fd_", "nearest")) and floor > 0 else ""
        rows.append(
            [name, _number(value, m.get("stderr")), m["n"], _number(floor, m.get("floor_stderr")), ratio]
        )
    write(
        f"quality_{asked.name}",
        f"What `kuosan {' '.join(Path(w).name if w == asked.data else w for w in words)}` reaches",
        f"{summary['steps']:,} steps in {clock(summary['seconds'])} of training; {clock(wall)} in all{kept}. Sampled "
        f"in {about['steps']} steps with {about['solver']} on the {about['grid']} grid, w = {about['w']}. One seed.",
        ["measure", "value", "n", "real data", "ratio"],
        rows,
    )


def _number(value: float | None, error: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" + (f" ± {error:.2g}" if error is not None else "")


if __name__ == "__main__":
    main()
