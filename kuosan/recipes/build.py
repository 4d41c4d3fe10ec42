"""Objects from resolved leaves: the only place that turns the words of a recipe into classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from kuosan.core.curves import survival
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
from kuosan.denoisers.base import Denoiser
from kuosan.denoisers.network import NetworkDenoiser
from kuosan.denoisers.tokens import TokenDenoiser
from kuosan.errors import UserError
from kuosan.modalities import Modality
from kuosan.networks import build_network
from kuosan.processes.blocks import BlockMasked
from kuosan.processes.discrete import DiscreteProcess, Masked, UniformNoise
from kuosan.recipes.noise import build_process
from kuosan.recipes.schema import ObjectivePart, ProcessPart, Recipe, SchedulePart, TrainingPart
from kuosan.training.budget import Budget
from kuosan.training.coupling import COUPLINGS
from kuosan.training.given import Masks
from kuosan.training.objective import RESOLUTIONS, Denoising, Objective
from kuosan.training.settings import Settings
from kuosan.training.timing import TIMINGS, EntropyTiming
from kuosan.training.tokens import MaskedTokens, NextToken, TokenBlocks, UniformTokens
from kuosan.training.views import Views

UNTIL = 0.8  # progress at which crops and routes end

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


def objective_of(recipe: Recipe, modality: Modality[Any] | None = None) -> Objective:
    """The objective of a resolved recipe, over numbers or over tokens; ``modality`` says which side of a state is time,
    and which channels belong together, for parts that are given in training."""
    if not recipe.process.discrete:
        return build_objective(recipe.objective, recipe.training, modality)
    weight = recipe.objective.weight
    assert weight in ("bound", "even")
    match recipe.process.kind:
        case "masked":
            return MaskedTokens(weight)
        case "blocks":
            return TokenBlocks(weight)
        case "autoregressive":
            return NextToken()
        case _:
            return UniformTokens()


def build_objective(
    part: ObjectivePart, training: TrainingPart | None = None, modality: Modality[Any] | None = None
) -> Objective:
    """The objective of resolved parts, over numbers."""
    timing = TIMINGS[part.timing]
    weight = "uniform" if part.kind == "elbo" else part.weight
    if isinstance(timing, EntropyTiming):
        timing = EntropyTiming(
            TIMINGS[part.usual_timing], resolution=RESOLUTIONS.get(weight, timing.resolution)
        )
    # What was saved before there was a choice says ``auto``.
    training = training or TrainingPart()
    crops, route = (0.0 if share == "auto" else share for share in (training.crops, training.route))
    return Denoising(
        weight, timing, part.balance if part.variance == "learned" else 0.0,
        COUPLINGS["independent" if training.coupling == "auto" else training.coupling],
        Views(crops, route, UNTIL), masks_of(training, modality),
        0.0 if modality is None or part.velocity == "auto" else part.velocity,
        _time(modality) or 0,
        0.0 if modality is None or part.feet == "auto" else part.feet,
        modality.feet if modality else None,
    )  # fmt: skip


def _time(modality: Modality[Any] | None) -> int | None:
    """Which side of a state is time, where one is."""
    return modality.axes.index("time") if modality and "time" in modality.axes else None


def masks_of(training: TrainingPart, modality: Modality[Any] | None) -> Masks:
    """The parts that are given in training."""
    share = 0.0 if training.given == "auto" else training.given
    if modality is None or not share:
        return Masks(share)
    return Masks(share, _time(modality), tuple(tuple(channels) for channels in modality.groups.values()))


def build_model(network: Mapping[str, Any], recipe: Recipe) -> Denoiser:
    """A resolved recipe's denoiser, of numbers or of tokens, with freshly drawn weights."""
    return (build_tokens if recipe.process.discrete else build_denoiser)(network, recipe)


def build_tokens(network: Mapping[str, Any], recipe: Recipe) -> TokenDenoiser:
    """The denoiser of a recipe whose states are tokens."""
    net = build_network(network, _generator(recipe))
    return TokenDenoiser(build_token_process(recipe.process, network["size"]), net)


def build_token_process(part: ProcessPart, size: int) -> DiscreteProcess:
    """The process of a part, for tokens of ``size`` values."""
    try:
        keep = survival(part.keep)
    except ValueError as e:
        raise UserError(f"process.keep: {e}") from e
    match part.kind:
        case "masked":
            return Masked(size, keep)
        case "uniform":
            return UniformNoise(size, keep)
        case "blocks":
            return BlockMasked(size, keep, part.block)
        case "autoregressive":
            return BlockMasked(size, keep, 1)
        case _:
            raise AssertionError(part.kind)


def _generator(recipe: Recipe) -> torch.Generator:
    return torch.Generator().manual_seed(Seeds.of(recipe.seed, 1).fold("weights").number())


def build_denoiser(network: Mapping[str, Any], recipe: Recipe) -> NetworkDenoiser:
    """The denoiser of a recipe whose states are numbers."""
    net, objective = build_network(network, _generator(recipe)), recipe.objective
    assert objective.output != "auto"
    process = build_process(recipe.noise, build_schedule(recipe.schedule))
    learned = objective.variance == "learned"
    return NetworkDenoiser(process, net, objective.output, objective.sigma_data, learned)


def build_settings(part: TrainingPart, seed: int, budget: Budget, seconds: float | None) -> Settings:
    """The loop's settings; ``seconds`` is what a budget of time leaves for training."""
    assert part.batch != "auto" and part.lr != "auto"
    of_others = {
        "augment",
        "augment_p",
        "crops",
        "route",
        "coupling",
        "given",
        "best",
    }  # the data's, the objective's, the watch's
    leaves = part.model_dump(exclude={"batch", "lr", "micro"} | of_others)
    leaves["ema"] = None if part.ema == "auto" else part.ema
    before = {
        "precision": "float32", "layout": "contiguous", "compile": False, "optimizer": "adamw", "weight_decay": 0.01,
    }  # fmt: skip
    for name, plain in before.items():
        if leaves[name] == "auto":  # saved before there was a choice, or of somebody else's pipeline
            leaves[name] = plain
    return Settings(
        seed=seed, batch=part.batch, lr=part.lr, steps=budget.steps_of(part.batch), seconds=seconds,
        micro=None if part.micro == "auto" else part.micro, **leaves,
    )  # fmt: skip
