"""Which temperature suits a model of music: measured once, at the end of training.

A young model of music is surer of its mistakes than of anything else: drawn from its own law, notes come too often and
too short. A temperature below 1 mends part of that and costs variety, how much of either depends on the model. So a few
are tried, and the one is kept whose windows overlap most with those of training, in the mean of the histograms of
pitch classes, melodic intervals, durations and places in the bar (`evaluation.music.histograms`); T = 1 stands unless
another is better by more than a standard error. Held-out music is not looked at: it is what the samples are judged by.

Overlap rises and then falls as the temperature does, so a third is tried only on the better side of the second, with
as many windows as the time that is left allows.
"""

from __future__ import annotations

import math
from typing import Any

import torch

from kuosan.evaluation.music.bars import Bars
from kuosan.evaluation.music.histograms import HISTOGRAMS, Overlap
from kuosan.recipes.heat import HEAT
from kuosan.recipes.music_measure import windows_of
from kuosan.recipes.music_revise import COST
from kuosan.recipes.run import Run
from kuosan.recipes.session import Session
from kuosan.recipes.text_measure import chosen
from kuosan.training.checkpoint import write_json

FIRST, HIGHER, LOWER = (1.0, 0.7), 0.85, 0.55
FEWEST, WINDOWS, MOST_REAL = 16, 64, 1_000
SHARE = 0.35  # of what is left of a budget
SEED = 2_000_000  # other samples than those that are measured
SURE = 1.0  # standard errors


def keep_heat(run: Run, session: Session) -> None:
    """Measure it, where the recipe leaves it open and there is time, and keep it with the run."""
    left, n = session.remaining(), WINDOWS
    if left is not None:
        each = session.seconds_per_sample * (1.0 if run.allowed is None else COST)
        n = min(n, int(SHARE * left / ((len(FIRST) + 1) * each)))
    if run.facts.recipe.sampling.temperature != "auto" or n < min(FEWEST, WINDOWS):
        return
    items = chosen(run, session.data.train, MOST_REAL)
    x, cond = items.batch(torch.arange(len(items)))
    real = windows_of(run, x, cond).bars
    tried = [_tried(run, heat, n, real) for heat in FIRST]
    plain, cool = tried
    tried.append(_tried(run, LOWER if cool["overlap"] > plain["overlap"] else HIGHER, n, real))
    best = max(tried, key=lambda row: row["overlap"])
    spread = math.hypot(best["stderr"], plain["stderr"])
    kept = best if best["overlap"] - plain["overlap"] > SURE * spread else plain
    write_json(run.path / HEAT, {"temperature": kept["temperature"], "tried": tried})


def _tried(run: Run, heat: float, n: int, real: Bars) -> dict[str, Any]:
    """How far windows at this temperature overlap with real ones."""
    samples = run.heated(heat).sample(n, seed=SEED)
    mine = windows_of(run, samples.x, samples.cond).bars
    found = []
    for histogram in HISTOGRAMS.values():
        try:
            found.append(Overlap().estimate(histogram(mine), histogram(real)))
        except ValueError:  # not a single note
            return {"temperature": heat, "overlap": 0.0, "stderr": 0.0, "n": n}
    value = sum(one.value for one in found) / len(found)
    stderr = sum(one.stderr or 0.0 for one in found) / len(found)  # of one set of windows: not independent
    return {"temperature": heat, "overlap": value, "stderr": stderr, "n": n}
