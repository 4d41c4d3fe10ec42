"""Does a budget of time hold? The whole command by the clock: start of Python, data, training, report.

    python -m benchmarks.budget [--data DIR …] [--budgets 1m 5m] [--n 3]

Every run is a process of its own. Beside the clock stands what the machine gave it: seconds of computing by seconds on
the clock, which on a machine of its own is 1 or more (of several threads).
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import table
from kuosan.recipes.demo import write_digits
from kuosan.training.budget import Budget


def timed(data: Path, budget: str, out: Path) -> dict[str, float]:
    """One command: seconds by the clock and of computing, steps, held-out loss."""
    words = ["train", str(data), "--budget", budget, "--out", str(out), "--json"]
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "kuosan", *words], capture_output=True, text=True, check=True
    )
    wall, after = time.monotonic() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    work = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    told = json.loads(done.stdout)
    return {
        "wall": wall,
        "work": work,
        "steps": told["steps"],
        "training": told["seconds"],
        "loss": told["val_loss"],
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", nargs="*", type=Path, default=[])
    parser.add_argument("--budgets", nargs="*", default=["1m", "5m"])
    parser.add_argument("--n", type=int, default=3)
    asked = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        places = [write_digits(Path(folder) / "digits"), *asked.data]
        for budget in asked.budgets:
            seconds = Budget.parse(budget).seconds
            assert seconds is not None
            for i in range(asked.n):
                for data in places:
                    load = os.getloadavg()[0]
                    m = timed(data, budget, Path(folder) / f"{data.name}-{budget}-{i}")
                    share, off = m["work"] / m["wall"], m["wall"] / seconds - 1
                    rows.append(
                        (data.name, budget, f"{m['wall']:.1f} s", f"{100 * off:+.1f} %", f"{m['training']:.0f} s",
                         m["steps"], f"{m['loss']:.4g}", f"{share:.2f}", f"{load:.0f}")
                    )  # fmt: skip
                    print(*rows[-1], file=sys.stderr, flush=True)
    notes = __doc__.split("\n\n")[0] + " " + __doc__.split("\n\n")[2].replace("\n", " ")
    header = (
        "data",
        "budget",
        "clock",
        "off by",
        "of it training",
        "steps",
        "held-out loss",
        "share of a core",
        "load",
    )
    table.write("budget", "Budgets of time", notes, header, rows)


if __name__ == "__main__":
    main()
