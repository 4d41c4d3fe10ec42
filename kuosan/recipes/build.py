"""Objects from resolved leaves: the only place that turns the words of a recipe into classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from kuosan.core.random import Seeds
from kuosan.core.schedules import (
    EDM,
    Cosine,
    Learned,
    Rectified,
    Schedule,
    Shifted,
    Sigmoid,
    Tabulated,
    VPLinear,
)
from kuosan.denoisers.network import NetworkDenoiser
from kuosan.networks import build_network
from kuosan.recipes.noise import build_process
from kuosan.recipes.schema import ObjectivePart, Recipe, SchedulePart, TrainingPart
from kuosan.training.budget import Budget
from kuosan.training.objective import RESOLUTIONS, Denoising, Objective
from kuosan.training.settings import Settings
from kuosan.training.timing import TIMINGS, EntropyTiming

_SCHEDULES: dict[str, type[Schedule]] = {
    "cosine": Cosine,
    "rectified": Rectified,
    "vp": VPLinear,
    "sigmoid": Sigmoid,
    "edm": EDM,
    "learned": Learned,
}


def build_schedule(part: SchedulePart) -> Schedule:
    """The schedule of a resolved part."""
    if part.kind == "tabulated":
        return Tabulated(part.alphas_cumprod or ())
    base = _SCHEDULES[part.kind]()
    return base if part.shift in (1.0, "auto") else Shifted(base, float(part.shift))


def build_objective(part: ObjectivePart) -> Objective:
    """The objective of a resolved part."""
    timing = TIMINGS[part.timing]
    weight = "uniform" if part.kind == "elbo" else part.weight
    if isinstance(timing, EntropyTiming):
        timing = EntropyTiming(
            TIMINGS[part.usual_timing], resolution=RESOLUTIONS.get(weight, timing.resolution)
        )
    return Denoising(weight, timing, part.balance if part.variance == "learned" else 0.0)


def build_denoiser(network: Mapping[str, Any], recipe: Recipe) -> NetworkDenoiser:
    """A resolved recipe's denoiser with freshly drawn weights."""
    generator = torch.Generator().manual_seed(Seeds.of(recipe.seed, 1).fold("weights").number())
    net, objective = build_network(network, generator), recipe.objective
    assert objective.output != "auto"
    process = build_process(recipe.noise, build_schedule(recipe.schedule))
    learned = objective.variance == "learned"
    return NetworkDenoiser(process, net, objective.output, objective.sigma_data, learned)


def build_settings(part: TrainingPart, seed: int, budget: Budget, seconds: float | None) -> Settings:
    """The loop's settings; ``seconds`` is what a budget of time leaves for training."""
    assert part.batch != "auto" and part.lr != "auto"
    leaves = part.model_dump(exclude={"batch", "lr"})
    return Settings(
        seed=seed, batch=part.batch, lr=part.lr, steps=budget.steps_of(part.batch), seconds=seconds, **leaves
    )
