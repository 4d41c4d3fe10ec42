"""What is measured of runs over tokens on a grid, by modality: samples, their bound, and what counting makes of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from kuosan.evaluation.base import Measurement
from kuosan.evaluation.found import Evaluation
from kuosan.modalities import Dataset
from kuosan.recipes import music_measure, plans_measure, voxels_measure
from kuosan.recipes.bulk import drawn
from kuosan.recipes.evaluate import kept
from kuosan.recipes.run import Run


@dataclass(frozen=True)
class Measures:
    """All that can be measured of samples against the data, within so many ``seconds`` where that is ``timed``; the
    surprise of up to so many items of a split; and bits of held-out items by counting, where that is known."""

    measure: Callable[..., Evaluation]
    bound: Callable[..., dict[str, Measurement]]
    baselines: Callable[[Dataset], dict[str, float]] | None = None
    timed: bool = False


MEASURES = {
    "music": Measures(music_measure.measure_music, music_measure.bound, music_measure.baselines),
    "plan": Measures(plans_measure.measure_plans, plans_measure.bound),
    "voxels": Measures(voxels_measure.measure_voxels, voxels_measure.bound, timed=True),
}


def evaluate_masked(
    run: Run,
    data: Dataset,
    n: int,
    *,
    seconds: float,
    seed: int,
    likelihood: bool,
    steps: int | None = None,
    solver: str = "auto",
    grid: str = "auto",
    w: float | None = None,
    **others: Any,
) -> dict[str, Any]:
    """``n`` samples and what they measure; with ``likelihood`` also the bound of held-out items and its baselines."""
    started, own = time.monotonic(), MEASURES[run.modality.name]
    samples = drawn(run, n, seed=seed, steps=steps, solver=solver, grid=grid, w=w)
    if samples is None:  # another process measures them
        return {}
    limit = {"seconds": seconds} if own.timed else {}
    result = own.measure(run, data, samples, out=run.path / "evaluation", **limit).to_json()
    if likelihood and len(data.val):
        result["metrics"] |= {name: m.to_json() for name, m in own.bound(run, data.val, n).items()}
        if own.baselines:
            result["baselines"] = own.baselines(data)
    took, sampler = time.monotonic() - started, run.sampler(steps, w, solver, grid)
    return kept(run, data, result, n=n, seed=seed, seconds=took, sampler=sampler)
