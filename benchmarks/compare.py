"""Diffusion beside its rivals on real data: `kuosan compare` on each folder, as one table.

    python -m benchmarks.compare ../shared/data/fashion_mnist ../shared/data/jsb_chorales --budget 10m
    python -m benchmarks.compare ../shared/data/flowers --budget 10m --set data.max_side=32
    python -m benchmarks.compare --false-alarms 200

The last form is the share of comparisons of real with real that the classifier two-sample test rejects at 5 %.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import torch

from benchmarks.table import write
from kuosan.evaluation.report_words import error, number
from kuosan.evaluation.two_sample import two_sample_test
from kuosan.recipes.compare import compare
from kuosan.recipes.schema import read_value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", nargs="*")
    parser.add_argument("--budget", default="10m")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("-n", type=int, default=1000)
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--out", default="")
    parser.add_argument("--false-alarms", type=int, default=0)
    asked = parser.parse_args()
    if asked.false_alarms:
        false_alarms(asked.false_alarms)
    leaves = {k: read_value(v) for k, _, v in (pair.partition("=") for pair in asked.set)}
    for data in asked.data:
        name = Path(data).name
        out = Path(asked.out or tempfile.mkdtemp()) / name
        found = compare(data, out=out, budget=asked.budget, seeds=asked.seeds, n=asked.n, **leaves)
        rows = []
        for method, about in found["methods"].items():
            measured = {a["metric"]: a for a in found["answers"].values()}
            cells = [_cell(about["metrics"].get(m)) for m in measured if m != "seconds_per_sample"]
            modes = found["mixture"].get(method, {}).get("modes", "–")
            rows.append([method, f"{about['parameters']:,}", f"{about['steps']:,.0f}", *cells,
                         f"{1000 * about['seconds_per_sample']:.3g}", modes])  # fmt: skip
        words = "\n".join(f"- {a['sentence']}" for a in found["answers"].values())
        heads = [m for m in (a["metric"] for a in found["answers"].values()) if m != "seconds_per_sample"]
        write(
            f"compare_{name}",
            f"Diffusion beside its rivals: {name}",
            f"{asked.budget} and {asked.seeds} seeds each, {asked.n} samples.\n\n{words}",
            ["method", "parameters", "steps", *heads, "ms per sample", "modes of 25"],
            rows,
        )


def false_alarms(count: int, n: int = 500, d: int = 16) -> None:
    """How often real is told from real at the level of 5 %."""

    def rows(seed: int) -> torch.Tensor:
        return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)

    found = sum(two_sample_test(rows(2 * s), rows(2 * s + 1)).p < 0.05 for s in range(count))
    share = found / count
    write(
        "compare_false_alarms", "False alarms of the classifier two-sample test",
        f"Sets of {n} items of one law in {d} dimensions; level 5 %.",
        ["comparisons", "rejected", "share"], [[count, found, f"{share:.1%} ± {(0.05 * 0.95 / count) ** 0.5:.1%}"]],
    )  # fmt: skip


def _cell(m: dict[str, float] | None) -> str:
    return "–" if m is None else f"{number(m['value'], m['stderr'])} ± {error(m['stderr'])}"


if __name__ == "__main__":
    main()
