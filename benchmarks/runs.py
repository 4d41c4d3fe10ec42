"""What benchmarks of trained models share: a run for every seed, and a row for every measure."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import kuosan
from kuosan.evaluation.base import Measurement
from kuosan.recipes.schema import read_value

HEADER = ("data", "measure", "value", "real", "n", "runs")


def leaves_of(words: Iterable[str]) -> dict[str, Any]:
    """Of a recipe, from ``part.leaf=value``, as `kuosan.train` takes them."""
    parts = (word.partition("=") for word in words)
    return {key.replace(".", "__"): read_value(value) for key, _, value in parts}


def trained(data: Path, budget: str, seed: int, leaves: Mapping[str, Any], out: Path) -> kuosan.Run:
    """A run in ``out``, or the one that is finished there."""
    if (out / "evaluation.json").exists():
        return kuosan.load(out)
    return kuosan.train(data, out=out, budget=budget, seed=seed, **leaves)


def plain(metrics: Mapping[str, Measurement]) -> dict[str, dict[str, Any]]:
    """Measurements as `Run.evaluate` gives them."""
    return {name: m.to_json() for name, m in metrics.items()}


def rows(name: str, shown: Iterable[str], runs: Sequence[Mapping[str, Any]]) -> list[list[object]]:
    """A row, under `HEADER`, of every measure that there is: means over runs and the spread between them, or of one run
    its standard error."""
    lines: list[list[object]] = []
    for measure in shown:
        here = [run[measure] for run in runs if measure in run]
        if not here:
            continue
        values = [m["value"] for m in here]
        spread = statistics.stdev(values) if len(values) > 1 else here[0].get("stderr")
        value = f"{statistics.mean(values):.4g}" + (f" ± {spread:.2g}" if spread is not None else "")
        floor = here[0].get("floor")
        real = "" if floor is None else f"{floor:.4g}"
        lines.append([name, measure, value, real, f"{here[0]['n']:,}", len(here)])
    return lines
