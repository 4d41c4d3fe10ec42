"""Pictures: which data, at which size, through which codec; what is trained on them stands in `image`."""

from __future__ import annotations

from kuosan.errors import UserError
from kuosan.modalities import load
from kuosan.recipes import captions, image
from kuosan.recipes import codec as codecs
from kuosan.recipes.settled import Question, Settled


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
    known = not start and codecs.possible(recipe, device)
    sides = codecs.sides_of(source, recipe.data.modality) if known else []
    side = codecs.max_side(recipe, device, sides)
    data = load(
        source,
        modality=recipe.data.modality,
        max_side=side,
        size=recipe.data.size,
        like=start.form(recipe.data.size) if start else None,
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
    resolved, network, others = image.resolve(
        recipe.updated(
            {"data.path": str(source.resolve()), "codec.kind": codec.spec()["kind"] if codec else "none"}
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
