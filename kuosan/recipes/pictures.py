"""Pictures: which data, at which size, through which codec; what is trained on them stands in `image`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from kuosan.errors import UserError
from kuosan.modalities import ImageModality, Modality, load
from kuosan.modalities.beside import Enlarging, Mapped
from kuosan.modalities.folder import open_folder
from kuosan.modalities.maps import find_maps
from kuosan.recipes import captions, image
from kuosan.recipes import codec as codecs
from kuosan.recipes.schema import Recipe
from kuosan.recipes.settled import Question, Settled
from kuosan.recipes.start import Start

BESIDE = {"enlarge", "blur", "jpeg", "map"}
"""Leaves of the data that say what stands beside each picture."""


def settle(asked: Question) -> Settled:
    """Read the pictures and decide every leaf.

    Raises:
        UserError: unusable data, or leaves that do not fit them.
    """
    source, recipe, start, device = asked.source, asked.recipe, asked.start, asked.device
    if recipe.process.discrete:
        raise UserError(
            f"process={recipe.process.kind} is for tokens, and {source} holds pictures, whose states are numbers: "
            "leave it away"
        )
    recipe = recipe.updated({"process.kind": "additive"})
    recipe = _with_beside(recipe, source, start)
    known = not start and codecs.possible(recipe, device)
    sides = codecs.sides_of(source, recipe.data.modality) if known else []
    side = codecs.max_side(recipe, device, sides)
    options = {"max_side": side, "size": recipe.data.size, "aspect": _aspect(recipe, device, sides)}
    options |= recipe.data.model_dump(include=BESIDE)
    data = load(
        source,
        modality=recipe.data.modality,
        options={"image": options},
        like=_form(recipe, start) if start else None,
        columns=start.columns if start else None,
        grow=bool(start),
        captions=start.captions if start else None,
        caption=None if start else captions.reading(recipe),
    )
    if not len(data.train):
        raise UserError(f"{source} holds nothing to train on: give a folder with pictures")
    shape = data.modality.shape
    if start:
        if recipe.codec.kind != "auto" and (recipe.codec.kind == "none") != (start.codec is None):
            raise UserError(
                f"{recipe.init} {'has a' if start.codec else 'has no'} codec, which stands: leave codec away"
            )
        codec = start.codec
        choices = [("codec", "as it is", f"from {recipe.init}")] if codec else []
        if shape[1:] != start.size:
            was = "×".join(map(str, start.size))
            choices.append(("size", "×".join(map(str, shape[1:])), f"asked for; {recipe.init} is of {was}"))
    else:
        sides = sides if known else codecs.surveyed(data.survey)
        codec, choices = codecs.choose_codec(recipe, device, sides, shape)
    inside = codec.latent_shape if codec else shape
    aspect = "buckets" if data.modality.shelves(data.train.x) else "crop"
    resolved, network, others = image.resolve(
        recipe.updated(
            {
                "data.path": str(source.resolve()),
                "data.aspect": aspect,
                "codec.kind": codec.spec()["kind"] if codec else "none",
            }
        ),
        data,
        asked.seconds * (1 - recipe.codec.share if codec else 1),
        device,
        start.facts() | {"network": start.network(inside, data.columns)} if start else None,
        asked.speed,
        shape=inside,
        side=side,
        budget=asked.budget,
    )
    batch = resolved.training.batch
    assert isinstance(batch, int)
    part = codecs.resolved(recipe.codec, codec, asked.budget.steps_of(batch))
    return Settled(data, resolved.model_copy(update={"codec": part}), network, [*choices, *others], codec)


def _aspect(recipe: Recipe, device: torch.device, sides: Sequence[int]) -> str:
    """Whether pictures may keep several shapes.

    Raises:
        UserError: they are asked to, and something else needs one.
    """
    wish, part = recipe.data.aspect, recipe.data
    reasons = {
        f"data.enlarge={part.enlarge} shows crops": bool(part.enlarge),
        "a codec's latents are of one size": codecs.wanted(recipe, device, sides)[0],
        f"{recipe.init} stands as it is": bool(recipe.init),
        "crops of training are told where they lie in one": recipe.training.crops not in ("auto", 0.0),
    }
    why = next((reason for reason, holds in reasons.items() if holds), "")
    if wish == "buckets" and why:
        raise UserError(
            f"data.aspect=buckets has pictures keep their shapes, but {why}: leave one of them away"
        )
    return "crop" if why else wish


def _with_beside(recipe: Recipe, source: Path, start: Start | None) -> Recipe:
    """The recipe with its leaf ``map`` resolved; without a codec where something stands beside each picture, of pixels.

    Raises:
        UserError: a picture and a map are to stand there, a codec is asked for, or nothing would be enlarged.
    """
    part = recipe.data
    if part.enlarge and part.map not in ("auto", "none"):
        raise UserError(
            f"data.enlarge={part.enlarge} and data.map={part.map} are two things beside each picture: choose one"
        )
    if part.enlarge == 1:
        raise UserError("data.enlarge=1 enlarges nothing: choose 2 or more, or leave it away")
    own = start.modality.spec().get("beside") if start else None
    name = "none"
    if not part.enlarge and not own:
        name = find_maps(open_folder(source, "image"), part.map).name or "none"
    recipe = recipe.updated({"data.map": name})
    if not (part.enlarge or own or name != "none"):
        return recipe
    what = f"data.enlarge={part.enlarge}" if part.enlarge else f"a map of each picture, in {name},"
    if recipe.codec.kind not in ("auto", "none") or (start and start.codec):
        raise UserError(
            f"{what} is for diffusion of pixels, and a codec makes latents: leave one of them away"
        )
    return recipe.updated({"codec.kind": "none"})


def _form(recipe: Recipe, start: Start) -> Modality[Any]:
    """The form of what a run starts from, with what the recipe wants to stand beside it.

    Raises:
        UserError: another thing stands there, or sides are no multiples of the factor.
    """
    form, part = start.form(recipe.data.size), recipe.data
    assert isinstance(form, ImageModality)
    own = form.beside.spec() if form.beside else {}
    if part.enlarge and own and own.get("factor") != part.enlarge:
        raise UserError(
            f"{recipe.init} has something else beside its pictures: leave data.enlarge away, or --init"
        )
    if own or not (part.enlarge or part.map != "none"):
        return form
    if part.map != "none":
        return form.like(beside=Mapped(part.map))
    height, width = form.shape[1:]
    if height % part.enlarge or width % part.enlarge:
        raise UserError(
            f"data.enlarge={part.enlarge} needs sides that are multiples of it, and {recipe.init} is of "
            f"{height}×{width}: choose another factor, or data.size"
        )
    return form.like(beside=Enlarging(part.enlarge, form.shape[0], part.blur, part.jpeg), crops=True)
