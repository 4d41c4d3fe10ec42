"""Captions in a recipe: how they are read, and what of a network hears them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kuosan.modalities import Dataset
from kuosan.modalities.captions import CAPTION
from kuosan.modalities.tokeniser import read_tokeniser
from kuosan.networks.choose import HEARD
from kuosan.networks.frozen import digest_of, read_encoder, width_of
from kuosan.recipes.part import CaptionPart
from kuosan.recipes.schema import Recipe

Choice = tuple[str, Any, str]
HEAD = 32
PRIVATE = ("medical",)  # a run keeps captions word for word, and a report of a scan can name a person


def reading(recipe: Recipe, modality: str = "image") -> dict[str, Any]:
    """What `modalities.load` is told of captions of such items; `PRIVATE` ones have none unless asked for.

    Raises:
        UserError: the text encoder has no tokeniser.
    """
    part = recipe.caption
    own = {"tokeniser": read_tokeniser(part.encoder)} if part.encoder else {}
    column = "none" if modality in PRIVATE and recipe.data.caption == "auto" else recipe.data.caption
    return {"column": column, **part.model_dump(include={"vocabulary", "length", "thin"}), **own}


def hearing(part: CaptionPart, data: Dataset, width: int) -> tuple[dict[str, Any], list[Choice]]:
    """The part of a network of this width that hears the captions of the data, and the reasons.

    Raises:
        UserError: the text encoder cannot be read.
    """
    captions = data.captions
    assert captions is not None
    dim, why = (max(HEAD, min(HEARD, width // HEAD * HEAD)), "as the network, within limits")
    if part.dim != "auto":
        dim, why = part.dim, "asked for"
    heads = max(n for n in range(1, max(1, dim // HEAD) + 1) if dim % n == 0)
    spec: dict[str, Any] = {
        "name": CAPTION, "end": captions.null, "size": captions.tokeniser.size, "length": captions.length,
        "dim": dim, "depth": part.depth, "heads": heads,
    }  # fmt: skip
    choices: list[Choice] = [
        ("caption.dim", dim, why),
        ("caption.depth", part.depth, "blocks over a caption's tokens"),
    ]
    if part.encoder:
        folder = Path(part.encoder).resolve()
        model = read_encoder(folder)
        spec["encoder"] = {"path": str(folder), "digest": digest_of(folder), "width": width_of(model)}
        choices.append(("caption.encoder", type(model).__name__, f"from {part.encoder}; it stays as it is"))
    return spec, choices
