"""What training shows, and which noise goes with it: the leaves ``crops``, ``route``, ``coupling`` and ``given``.

At equal processor time, from 25 to 150 s (benchmarks/results/efficiency.md), held-out error and Fréchet distance in
pixels over those of whole pictures (flowers 64×64 and monet: three training seeds; fashion, and digits with routes:
two; else one):

    crops 0.75    fashion 28×28 0.82 and 0.59, flowers 32×32 0.98 and 0.92, 64×64 0.88 and 0.64, monet 256×256 0.98 and
                  0.88, with 2.1 to 2.6 times the samples; faces 64×64 by a U-Net 1.01 and 0.91
    route 0.5     digits 0.95 and 0.93, fashion 0.87 and 0.86, flowers 32×32 0.99 and 0.88, 64×64 0.95 and 0.78, monet
                  0.99 and 0.90
    nearest       digits 0.99 and 1.05, fashion 1.01 and 1.02
    transport     digits 1.03 and 1.00, fashion 1.01 and 1.00

Crops gain while much is still to be learned: after 400 s flowers 64×64 had 0.89 and 0.95 (one seed), fashion, of which
83,000 could be seen whole by then, 1.01 and 1.02. Adapters of a network of flowers 64×64 made 52 steps instead of 20 in
a minute over 216 paintings, report included, and the held-out error of 0.1373 became 0.1326 instead of 0.1341. So
``auto`` takes crops for transformers of pictures that have time for fewer than `MANY`, on a CPU: of GPUs, which small
batches leave idle, nothing was measured. The gain of routes was gone after 400 s, and they are asked for, as couplings
are.
"""

from __future__ import annotations

from typing import Any

import torch

from kuosan.core.shapes import PICTURE
from kuosan.errors import UserError
from kuosan.modalities import modality_class
from kuosan.networks.given import FIRST
from kuosan.networks.sides import each
from kuosan.recipes.schema import Recipe, TrainingPart

Choice = tuple[str, Any, str]

LEAVES = ("crops", "route", "coupling", "given")
USUAL: dict[str, Any] = {"crops": 0.0, "route": 0.0, "coupling": "independent", "given": 0.0}
CROPS = 0.75  # share of the examples that are crops, of pictures by transformers,
MANY = 50_000  # where these see fewer than so many
FEWEST = 6  # tokens along a side of which crops say something
GIVEN = 0.3  # share of the examples with given parts, of what has a time


def choose_views(
    recipe: Recipe, network: dict[str, Any], device: torch.device, samples: float | None = None
) -> tuple[dict[str, Any], list[Choice]]:
    """The four leaves of a recipe whose other leaves are decided, and the reasons for those that are not as usual.

    Args:
        network: the specification; a U-Net that is to see crops is given coordinates, and one with given parts is told.
        samples: that there is time for, shown whole; None where nobody knows.

    Raises:
        UserError: the network cannot be shown that, or the objective asks for independent noise.
    """
    training = recipe.training
    asked = {leaf: value for leaf in LEAVES if (value := getattr(training, leaf)) != "auto"}
    reasons = dict.fromkeys(asked, "asked for")
    leaves = USUAL | asked
    if "given" not in asked and (why := _told(recipe, network)):
        leaves["given"], reasons["given"] = GIVEN, why
    if leaves["given"]:
        if network["kind"] not in FIRST:
            raise UserError(
                f"training.given is for networks over numbers, and this is a {network['kind']}: leave it away"
            )
        if recipe.adapter.rank and not network.get("given"):
            raise UserError(
                f"training.given changes what the first layer of {recipe.init} sees, and adapters leave that alone: "
                "leave it away, or train all weights with `kuosan train --init`"
            )
        network["given"] = True
    if "crops" not in asked and device.type == "cpu" and (samples or MANY) < MANY and _gains(recipe, network):
        leaves["crops"] = CROPS
        reasons["crops"] = (
            f"whole, {samples:,.0f} could be seen; what is under little noise is learned from parts too"
        )
    if leaves["crops"]:
        _check_crops(recipe, network)
        if network["kind"] == "unet":
            network["coordinates"] = True
    if leaves["route"]:
        _check_route(network)
    if leaves["coupling"] != "independent":
        _check_coupling(recipe, leaves["coupling"])
    return leaves, [(f"training.{leaf}", leaves[leaf], why) for leaf, why in reasons.items()]


def without_views(training: TrainingPart, what: str) -> dict[str, Any]:
    """The leaves of data that have no such choice.

    Raises:
        UserError: one was made.
    """
    for leaf in LEAVES:
        if (value := getattr(training, leaf)) not in ("auto", USUAL[leaf]):
            raise UserError(
                f"training.{leaf}={value} is for states of numbers, and the data are {what}: leave it away"
            )
    return USUAL


def _gains(recipe: Recipe, network: dict[str, Any]) -> bool:
    """Whether it was measured on the like that crops gain."""
    objective = recipe.objective
    return (
        modality_class(recipe.data.modality).axes == PICTURE
        and recipe.codec.kind == "none"
        and network["kind"] == "transformer"
        and not (network.get("beside") or network.get("free"))
        and (objective.kind, objective.weight, objective.output) == ("denoising", "output", "v")
        and "learned" not in (objective.variance, recipe.schedule.kind)
        and objective.timing != "entropy"
        and min(side / patch for side, patch in zip(network["sides"], each(network["patch"], 2), strict=True))
        > FEWEST
    )


def _told(recipe: Recipe, network: dict[str, Any]) -> str:
    """Why parts are given in training although nobody asked; nothing where they are not."""
    if network.get("given"):
        return f"{recipe.init} was trained with given parts"
    if not recipe.init and "time" in modality_class(recipe.data.modality).axes:
        return "so that what has a time can be continued and filled in"
    return ""


def _check_crops(recipe: Recipe, network: dict[str, Any]) -> None:
    if network.get("beside"):
        raise UserError(
            "training.crops shows parts of pictures, and what stands beside them is of the whole: leave it away"
        )
    blind = network["kind"] == "stock" or (
        bool(recipe.init) and network["kind"] == "unet" and not network.get("coordinates")
    )
    if blind:
        raise UserError(
            f"training.crops needs a network that is told where a crop lies, and that of {recipe.init} is not: leave "
            "training.crops away, or --init"
        )


def _check_route(network: dict[str, Any]) -> None:
    if network["kind"] != "transformer":
        raise UserError(
            f"training.route is for transformers, whose tokens can part, and the network is a {network['kind']}: "
            "choose --set network=transformer, or leave training.route away"
        )
    if network["depth"] < 3:
        raise UserError(
            f"training.route has tokens skip the blocks between the first and the last, and the network has "
            f"{network['depth']} in all: choose --set network.depth=3 or more, or leave training.route away"
        )


def _check_coupling(recipe: Recipe, coupling: str) -> None:
    objective = recipe.objective
    for true, what in (
        (objective.kind == "elbo" or objective.weight == "uniform", "a bound on the likelihood"),
        (objective.variance == "learned", "the variances of reverse steps"),
        (objective.timing == "entropy", "the entropy of the data"),
        (recipe.schedule.kind == "learned", "a loss that no schedule changes"),
    ):
        if true:
            raise UserError(
                f"training.coupling={coupling} pairs noise with data that it lies close to, and {what} takes noise "
                "that knows nothing of the data: leave training.coupling away"
            )
