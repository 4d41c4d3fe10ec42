"""Measuring a run over plans: its bound, its samples beside held-out plans."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from kuosan.evaluation.base import Measurement
from kuosan.evaluation.found import Evaluation
from kuosan.evaluation.likelihood.tokens import token_bound
from kuosan.evaluation.plan import Portrait, evaluate_plans, portrait
from kuosan.modalities import Dataset, PlanModality, Split
from kuosan.recipes.build import objective_of
from kuosan.recipes.run import Run, Samples
from kuosan.recipes.text_measure import chosen

MOST_REAL = 2_000


def plans_of(run: Run) -> PlanModality:
    """The modality of a run over plans."""
    modality = run.modality
    assert isinstance(modality, PlanModality)
    return modality


def portraits(run: Run, x: Tensor) -> list[Portrait]:
    """What is measured of states."""
    form = plans_of(run).form
    return [portrait(form, row) for row in x.cpu().numpy()]


def bound(run: Run, split: Split, most: int, times: int = 8, side: str = "") -> dict[str, Measurement]:
    """Bits per room and per token that is not nothing, of up to so many plans."""
    items = chosen(run, split, most)
    x, _ = items.batch(torch.arange(len(items)))
    rooms = torch.tensor([float(len(p.rooms)) for p in portraits(run, x)], dtype=torch.float64)
    found = token_bound(
        run.model, objective_of(run.facts.recipe).judged(), items, rooms, plans_of(run).form.end, times=times,
        device=next(run.model.parameters()).device,
    )  # fmt: skip
    return found.measurements(False, side, "room", "plans")


def measure_plans(
    run: Run, data: Dataset, samples: Samples, *, seed: int = 0, out: Path | None = None
) -> Evaluation:
    """All that can be measured of these samples against the data."""
    form = plans_of(run).form

    def real(split: Split) -> list[Portrait]:
        items = chosen(run, split, MOST_REAL)
        return portraits(run, items.batch(torch.arange(len(items)))[0]) if len(items) else []

    return evaluate_plans(
        portraits(run, samples.x), real(data.train), real(data.val), list(form.categories),
        scaled=form.step is not None, out=out, seed=seed,
    )  # fmt: skip
