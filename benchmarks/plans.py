"""Floor plans: one training, then everything that is measured of its samples, and how often wishes are kept.

    python -m benchmarks.plans FOLDER [--budget 20m] [--n 256] [--rooms bedroom=2,kitchen=1] [--out runs/plans]

Writes benchmarks/results/plans.md. Asked rooms are those of held-out plans (the commonest counts of three uses), unless
given.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path
from typing import Any

import kuosan
from benchmarks.table import write
from kuosan.modalities import Dataset, PlanModality
from kuosan.recipes.evaluate import MEASURING, data_of
from kuosan.recipes.masked_measure import evaluate_masked
from kuosan.recipes.plans_wishes import PlanWishes, rules_of_plans


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--budget", default="20m")
    parser.add_argument("--n", type=int, default=256)
    parser.add_argument("--rooms", default="")
    parser.add_argument("--out", type=Path, default=Path("runs/plans-benchmark"))
    parser.add_argument("--name", default="plans", help="of the results page")
    parser.add_argument("--set", nargs="*", default=[], dest="leaves")
    asked = parser.parse_args()
    leaves = {key: json.loads(value) for key, value in (leaf.split("=", 1) for leaf in asked.leaves)}
    run = kuosan.train(asked.data, out=asked.out, budget=asked.budget, **leaves)
    data = data_of(run, None)
    found = evaluate_masked(run, data, asked.n, seconds=MEASURING, seed=1, likelihood=True)
    rows = [_row(name, m) for name, m in found["metrics"].items()]
    counts = asked.rooms or _usual(data)
    rules = rules_of_plans(run, PlanWishes(rooms=counts))
    assert rules is not None
    run.sample(min(asked.n, 64), seed=2, rules=rules)
    told = rules.canvas.told  # type: ignore[union-attr]
    wishes = (
        f"Asked for {counts}: {told['met']} of {told['samples']} plans have just these rooms; {told['kept']} of "
        f"{told['candidates']} candidates had them as they were drawn."
    )
    notes = (
        f"`python -m benchmarks.plans {asked.data.name} --budget {asked.budget}`, {asked.n} samples. {wishes}"
    )
    write(asked.name, "Floor plans", notes, ("measure", "samples", "real plans", "n"), rows)


def _row(name: str, m: dict[str, Any]) -> tuple[object, ...]:
    value = f"{m['value']:.3f} ± {m['stderr'] or 0:.3f}"
    return name, value, "" if m["floor"] is None else f"{m['floor']:.3f}", m["n"]


def _usual(data: Dataset) -> str:
    """The commonest number of rooms of the three commonest uses, in held-out plans."""
    modality = data.modality
    assert isinstance(modality, PlanModality)
    plans = [Counter(modality.form.layout(row).categories) for row in data.val.x.long().numpy()]
    uses = Counter(name for plan in plans for name in plan if name not in ("room", "shaft")).most_common(3)
    return ",".join(
        f"{name}={Counter(plan[name] for plan in plans).most_common(1)[0][0]}" for name, _ in uses
    )


if __name__ == "__main__":
    main()
