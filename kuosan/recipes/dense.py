"""Dense states that are no pictures: sounds, clips, motions, shapes, rolls; what is trained on them stands in `image`.

A modality of these needs no recipe of its own: a line in `OPTIONS` hands it the leaves that its reader asks for, and
one in `DEFAULTS` says which other defaults suit it, and why.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from kuosan.codecs import Codec
from kuosan.errors import UserError
from kuosan.modalities import Dataset, load
from kuosan.recipes import captions, image, plans, shapes, sounds
from kuosan.recipes import codec as codecs
from kuosan.recipes.facts import Facts
from kuosan.recipes.schema import Recipe
from kuosan.recipes.settled import Choice, Question, Settled
from kuosan.recipes.start import Start

OPTIONS: dict[str, Callable[[Recipe], dict[str, Any]]] = {
    "audio": lambda recipe: recipe.data.model_dump(include={"length", "rate", "names"}),
    "video": lambda recipe: (
        recipe.data.model_dump(include={"max_side", "size", "rate", "length"})
        | {"latents": recipe.codec.kind not in ("auto", "none")}
    ),
    "motion": lambda recipe: recipe.data.model_dump(include={"length", "rate"}),
    "shape": shapes.options,
    "medical": lambda recipe: recipe.data.model_dump(
        include={"size", "max_side", "volume", "spacing", "span", "moments"}
    ),
    "plan": plans.options,
}
"""By modality: the options of its `gather` that a recipe holds."""

CODED = {"video"}
"""Modalities that a codec can make latents of, where one is asked for."""

DEFAULTS: dict[str, dict[str, tuple[Any, str]]] = {
    # 140 s of one core, voxel_minis as coloured distances on 32×20×32, batches of 8, one seed; error of x and Fréchet
    # distance of states: patch 2×4×4, 128 wide, 4 deep 0.098 and 96.5 (181 steps), patch 4, 96 wide, 3 deep 0.072 and
    # 55.9 (849), 64 wide, 2 deep 0.064 and 42.7 (1,694).
    "shape": {"network.room": (4.0, "what is said is the shape, which needs less room than noise")},
    "roll": {
        "objective.output": ("x", "notes are few among many places, which is easier to point at than noise"),
    },
    "motion": {
        "objective.output": (
            "x",
            "poses lie on a surface of few dimensions, which is easier to point at than noise",
        ),
        # 150 s of one core, cmu_mocap, 128 wide, one seed; foot skating in m/s, jerk in m/s³, Fréchet distance of
        # kinematics: unshaped, velocity 0 0.95, 4,030 and 130 (weight min_snr), 10 0.49, 1,970 and 20; shaped,
        # velocity 0 0.34, 671 and 3.5, 3 0.43, 299 and 3.7, 10 0.48, 249 and 5.5, shaped by a power of 0.7, velocity 3
        # 0.44, 290 and 3.5; real 0.10, 274 and 1.2.
        "network.spectrum": (0.7, "what it says is shaped like the motions, whose power is in slow changes"),
        "objective.velocity": (3.0, "small errors that change from frame to frame are seen as trembling"),
        "objective.feet": (30.0, "errors of many joints add up in the feet, which should stand still"),
    },
}
"""By modality: leaves whose ``auto`` is another than that of pictures, "part.leaf" → (value, why)."""


FIRST: dict[str, Callable[[Dataset, Recipe, torch.device, float | None], tuple[Dataset, Choice, float]]] = {
    "audio": sounds.with_vocoder,
}
"""By modality: what is learned of the training data before the diffusion, within so many seconds of a budget of time:
the data with it, the choice in words, and the seconds that it took."""


def reading(facts: Facts) -> dict[str, dict[str, Any]]:
    """The options with which the data of a run were read, to read them again."""
    name, recipe = str(facts.modality["modality"]), facts.recipe
    make = OPTIONS.get(name)
    return {"text": recipe.data.reading, **({name: make(recipe)} if make else {})}


def settle(asked: Question) -> Settled:
    """Read the items and decide every leaf.

    Raises:
        UserError: unusable data, or leaves that do not fit them.
    """
    recipe, start = asked.recipe, asked.start
    name = start.modality.name if start else asked.modality
    _check(recipe, asked.source, name)
    make = OPTIONS.get(name)
    data = load(
        asked.source,
        modality=recipe.data.modality,
        like=start.modality if start else None,
        columns=start.columns if start else None,
        grow=bool(start),
        captions=start.captions if start else None,
        caption=None if start else captions.reading(recipe, name),
        options={name: make(recipe)} if make else {},
    )
    return decided(asked, recipe, data)


def decided(asked: Question, recipe: Recipe, data: Dataset) -> Settled:
    """Every leaf but those of the data, which are read.

    Raises:
        UserError: leaves that do not fit them.
    """
    source, start, name = asked.source, asked.start, data.modality.name
    _check(recipe, source, name)
    if not len(data.train):
        raise UserError(f"{source} holds nothing to train on: give a folder with {data.modality.noun}")
    shape = data.modality.shape
    codec, told = _codec(recipe, start, shape)
    inside = codec.latent_shape if codec else shape
    kind = codec.spec()["kind"] if codec else "none"
    resolved, network, choices = image.resolve(
        recipe.updated({"process.kind": "additive", "codec.kind": kind, "data.path": str(source.resolve())}),
        data,
        asked.seconds * (1 - recipe.codec.share if codec else 1),
        asked.device,
        start.facts() | {"network": start.network(inside, data.columns)} if start else None,
        asked.speed,
        shape=inside,
        side=None,
        budget=asked.budget,
        usual=None if codec else DEFAULTS.get(name),
    )
    batch = resolved.training.batch
    assert isinstance(batch, int)
    parts = {
        "data": resolved.data.model_copy(update=data.modality.resolved()),
        "codec": codecs.resolved(recipe.codec, codec, asked.budget.steps_of(batch)),
    }
    return Settled(data, resolved.model_copy(update=parts), network, [*told, *choices], codec)


def _codec(recipe: Recipe, start: Start | None, shape: tuple[int, ...]) -> tuple[Codec | None, list[Choice]]:
    """What makes latents of states of this shape: the start's own, the one that is asked for, or none."""
    if start:
        return start.codec, [("codec", "as it is", f"from {recipe.init}")] if start.codec else []
    if recipe.codec.kind in ("auto", "none"):
        return None, []
    codec = codecs.build(recipe.codec, recipe.seed, shape)
    return codec, codecs.told(codec, "asked for")


def _check(recipe: Recipe, source: Path, name: str) -> None:
    """UserError for leaves that are of other states."""
    if recipe.process.discrete:
        raise UserError(
            f"process={recipe.process.kind} is for tokens, and the states of {source} are numbers: leave it away"
        )
    kind = recipe.codec.kind
    if kind not in ("auto", "none") and name not in CODED:
        raise UserError(f"codec={kind} is for pictures and clips, and {source} holds none: leave it away")
    if kind == "stock" or recipe.codec.path:
        raise UserError(
            f"codec=stock is for pictures, and {source} holds none: choose codec=kl_vae, which is trained on them"
        )
