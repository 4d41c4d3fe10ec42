"""Several runs beside each other: `kuosan evaluate RUN_A RUN_B …`.

Every run is evaluated as it would be alone. The first is what all others are compared with: in the feature space of its
own evaluation samples of the same numbers are paired (`evaluation.paired`); numbers that are no distances, and those of
texts and music, are compared by their standard errors, as of independent runs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor

from kuosan.errors import UserError
from kuosan.evaluation import METRICS
from kuosan.evaluation.encoder import load_encoder
from kuosan.evaluation.features import FeatureSpace
from kuosan.evaluation.features import states as raw
from kuosan.evaluation.found import FEWEST_ROWS
from kuosan.evaluation.paired import paired_difference
from kuosan.evaluation.versus import Difference, interval, samples_needed
from kuosan.recipes.evaluate import data_of, evaluate, states
from kuosan.recipes.run import Run
from kuosan.recipes.samples import Samples

PAIRED = ("fd", "kd", "swd", "precision", "recall", "density", "coverage", "vendi")
MOST = 1000  # rows of either side


def evaluate_runs(
    runs: Sequence[Run],
    *,
    names: Sequence[str],
    data: Any = None,
    n: int = 1000,
    tell: Callable[[str], None] = lambda what: None,
    **options: Any,
) -> dict[str, Any]:
    """What `evaluate` finds of each run, by name, and the differences to the first.

    Raises:
        UserError: runs of different modalities or shapes, or what `evaluate` raises.
    """
    first = runs[0]
    for name, run in zip(names[1:], runs[1:], strict=True):
        if run.modality.name != first.modality.name or run.shape != first.shape:
            raise UserError(
                f"{names[0]} makes {first.modality.described_form()} and {name} {run.modality.described_form()}: give "
                "runs of one form"
            )
    found, drawn = {}, {}
    for name, run in zip(names, runs, strict=True):
        tell(f"evaluating {name}")
        kept: list[Samples] = []
        source = data or first.facts.recipe.data.path
        found[name] = evaluate(run, data=source, n=n, tell=tell, seen=kept.append, **options)
        drawn[name] = kept
    differences = {
        name: differences_of(first, data, found[names[0]], found[name], drawn[names[0]], drawn[name])
        for name in names[1:]
    }
    return {
        "runs": found, "compared_with": names[0],
        "differences": {name: {k: d.to_json() for k, d in each.items()} for name, each in differences.items()},
    }  # fmt: skip


def differences_of(
    first: Run,
    data: Any,
    a: Mapping[str, Any],
    b: Mapping[str, Any],
    mine: list[Samples],
    theirs: list[Samples],
) -> dict[str, Difference]:
    """b - a of every metric that both have: below 0 is less than the first run's."""
    out: dict[str, Difference] = {}
    if mine and theirs:
        out |= _paired(first, data, mine[0], theirs[0])
    for name, m in b["metrics"].items():
        other = a["metrics"].get(name)
        if name in out or other is None or None in (m["value"], other["value"], m["stderr"], other["stderr"]):
            continue
        value, variance = m["value"] - other["value"], m["stderr"] ** 2 + other["stderr"] ** 2
        out[name] = interval(
            value, math.sqrt(variance), needed=samples_needed(value, variance, 0.0, m["n"]), n=m["n"]
        )
    return out


def _paired(first: Run, data: Any, mine: Samples, theirs: Samples) -> dict[str, Difference]:
    dataset = data_of(first, data)
    modality = first.modality
    real = modality.compared(
        states(dataset.val if len(dataset.val) >= FEWEST_ROWS else dataset.train, MOST).float()
    )
    space: FeatureSpace = raw(real.shape[1:], modality.compared_axes)
    if (first.path / "evaluation" / "encoder.safetensors").is_file():
        space = load_encoder(first.path / "evaluation")
    rows: list[Tensor] = [
        space(modality.compared(s.modality.encode(s.modality.decode(s.x[:MOST])).float())).double()
        for s in (mine, theirs)
    ]
    reference = space(real).double()
    if min(len(reference), *map(len, rows)) < FEWEST_ROWS:
        return {}
    out = {}
    for name in PAIRED:
        own = f"{name}_{space.name}" if name in ("fd", "kd", "swd") else name
        out[own] = paired_difference(METRICS[name], rows[1], rows[0], reference)
    return out


def in_words(name: str, d: Difference, better: str) -> str:
    """What a difference to the first run says."""
    n, span = d.n or 0, f"{d.low:.3g} to {d.high:.3g}"
    if d.told:
        good = (d.value < 0) == (better == "lower")
        return f"{name}: {'better' if good else 'worse'} by {abs(d.value):.3g} (95 % interval {span})"
    if d.value == 0 and d.stderr == 0:
        return f"{name}: the same"
    if d.needed is None:
        more = "no number of samples would tell a difference of this size: it takes more held-out items"
    else:
        more = f"were it as large as it seems, {max(d.needed, n):,} samples would tell"
    return f"{name}: cannot be told apart at n = {n:,} ({span}); {more}"
