"""What distances between large sets cost: seconds and memory of every metric of features.

    python -m benchmarks.distances [-n 10000] [-d 512]

Takes two sets of so many Gaussian rows, measures each metric between them with its standard error, and the nearest row
of one to every row of the other, and writes results/distances.md.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Callable
from functools import partial

import torch

from benchmarks import table
from kuosan.evaluation import METRICS
from kuosan.evaluation.estimates import nearest


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-n", type=int, default=10_000)
    parser.add_argument("-d", type=int, default=512)
    asked = parser.parse_args()
    g = torch.Generator().manual_seed(0)
    x, y = (torch.randn(asked.n, asked.d, generator=g) for _ in range(2))
    calls: dict[str, Callable[[], object]] = {"nearest of all": partial(nearest, x, y)}
    calls |= {name: partial(m, x, y) for name, m in METRICS.items() if m.needs == ("features",)}
    rows: list[list[object]] = []
    began = time.monotonic()
    for name, call in calls.items():
        started = time.monotonic()
        call()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        rows.append(
            [f"`{name}`" if name in METRICS else name, f"{time.monotonic() - started:.1f}", f"{peak:.2f}"]
        )
    rows.append(["all", f"{time.monotonic() - began:.1f}", rows[-1][2]])
    notes = f"""
Two sets of {asked.n:,} rows in {asked.d} dimensions, {torch.get_num_threads()} threads. The memory is the most that the
process has held so far, libraries included."""
    table.write("distances", "Distances between large sets", notes, ("metric", "seconds", "GiB"), rows)


if __name__ == "__main__":
    main()
