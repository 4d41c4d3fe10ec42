"""Pixels or latents: when ``auto`` takes a codec, and which.

A diffusion of pixels is at its end where pictures are larger than what the machine can do in the time (64 pixels on a
CPU, 128 with CUDA). Larger ones are brought down to that, or, where there are enough of them and enough time for two
trainings, brought to 256 and diffused as latents. A budget of 15 minutes is enough on two slow cores: a fifth of it
gives a codec whose round trip of 256×256 paintings is 25 dB, the rest a diffusion of 32×32 latents.

A latent has as many channels as its patch has pixels on a side: a 24th of the numbers of colour pictures at the
factor 8. More channels make better round trips and latents that are harder to diffuse. Of clips two frames share a
latent, of twice as many channels.
"""

from __future__ import annotations

import math
import os
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from kuosan.codecs import Codec, build_codec, read_stock
from kuosan.core.random import Seeds
from kuosan.core.shapes import PICTURE
from kuosan.errors import UserError
from kuosan.modalities import Survey
from kuosan.modalities.folder import open_folder
from kuosan.modalities.image_gather import picture_sides
from kuosan.networks.sides import times
from kuosan.recipes.part import CodecPart
from kuosan.recipes.schema import Recipe
from kuosan.training.budget import Budget, clock

Choice = tuple[str, Any, str]
LATENT_SIDE = 256  # the longer side that pictures are brought to for a codec
FRAMES = 2  # of clips in one latent
CROP = {2: 64, 3: 32}  # pixels of the crops that codecs of pictures and clips are trained on
SMALL_FACTOR = 128  # pictures up to here have patches of 4, larger ones of 8
FEWEST = 64  # pictures that are worth a codec
SECONDS = {"cpu": 900.0}  # of a whole budget that are; elsewhere:
SECONDS_ELSEWHERE = 300.0
STEPS, IMAGES = 5_000, 300_000  # of a budget that says nothing of time
MEMORY = 0.25  # share of the machine's that pictures may take


def pixel_side(device: torch.device) -> int:
    """The longer side up to which diffusion is of pixels."""
    return 128 if device.type == "cuda" else 64


def possible(recipe: Recipe, device: torch.device) -> bool:
    """Whether there are pictures that would get a codec; if not, nobody needs to know their sizes beforehand."""
    kind = recipe.codec.kind
    return kind != "none" and (kind != "auto" or not _lacking(Budget.parse(recipe.budget), device))


def sides_of(source: Path, modality: str = "auto") -> list[int]:
    """The longer side of every picture as it is found, from headers; none where the data are no pictures."""
    folder = open_folder(source, modality)
    return picture_sides(folder) if folder.modality == "image" else []


def surveyed(survey: Survey) -> list[int]:
    """The same of pictures that were read already."""
    return [max(map(int, size.split("×"))) for size, count in survey.sizes.items() for _ in range(count)]


def wanted(recipe: Recipe, device: torch.device, sides: Sequence[int]) -> tuple[bool, str]:
    """Whether pictures with these longer sides get a codec, and why ("" where nobody would ask).

    Raises:
        UserError: a stock codec without its folder, or the other way round.
    """
    part = recipe.codec
    if (part.kind == "stock") != bool(part.path):
        raise UserError(
            "a stock codec needs its folder, and no other kind has one: give both --set codec=stock and "
            "--set codec.path=FOLDER of a diffusers autoencoder"
        )
    if part.kind != "auto":
        return part.kind != "none", "asked for"
    limit = pixel_side(device)
    if not sides or (recipe.data.size is None and statistics.median(sides) <= limit):
        return False, ""
    more = f"larger than the {limit} pixels of a diffusion of pixels here"
    if len(sides) < FEWEST:
        return False, f"the pictures are {more}, but {len(sides)} are too few for a codec: {FEWEST} or more"
    if side_of(sides) <= limit:
        return False, f"the pictures are {more}, but {len(sides):,} of them do not fit into memory"
    if lacking := _lacking(Budget.parse(recipe.budget), device):
        return False, f"the pictures are {more}: {lacking} gives latents of up to {LATENT_SIDE} pixels"
    return True, f"{len(sides):,} pictures {more}, and time enough for a codec"


def _lacking(budget: Budget, device: torch.device) -> str:
    """The budget that would be enough; "" where this one is."""
    least = SECONDS.get(device.type, SECONDS_ELSEWHERE)
    if budget.seconds is not None:
        return "" if budget.seconds >= least else f"a budget of {clock(least)} or more"
    if budget.steps is not None:
        return "" if budget.steps >= STEPS else f"a budget of {STEPS:,} steps or more"
    return "" if (budget.images or 0) >= IMAGES else f"a budget of {IMAGES:,} images or more"


def side_of(sides: Sequence[int]) -> int:
    """The longer side that so many pictures of three or four bytes a pixel can have in memory, in whole 32s."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    fits = (MEMORY * memory / (4 * max(1, len(sides)))) ** 0.5
    return min(LATENT_SIDE, int(fits) // 32 * 32)


def max_side(recipe: Recipe, device: torch.device, sides: Sequence[int] = ()) -> int:
    """The longest side that pictures are brought to, unless the recipe says."""
    if recipe.data.max_side != "auto":
        return recipe.data.max_side
    takes, _ = wanted(recipe, device, sides)
    return max(side_of(sides), pixel_side(device)) if takes else pixel_side(device)


def choose_codec(
    recipe: Recipe, device: torch.device, sides: Sequence[int], shape: tuple[int, ...]
) -> tuple[Codec | None, list[Choice]]:
    """The codec of states of this shape, as `build` makes it, or None; and the reasons.

    Args:
        sides: longer sides of the pictures as they were found.
        shape: of a state.

    Raises:
        UserError: what `wanted` and `build` raise.
    """
    takes, why = wanted(recipe, device, sides)
    sized = recipe.data.size is not None or recipe.data.max_side != "auto"
    if recipe.codec.kind == "auto" and (takes or sized) and max(shape[1:]) <= pixel_side(device):
        takes, why = False, ""  # small pictures, and somebody meant them to be
    if not takes:
        return None, [("codec", "none", why)] if why else []
    codec = build(recipe.codec, recipe.seed, shape)
    return codec, told(codec, why)


def told(codec: Codec, why: str) -> list[Choice]:
    """The codec among the choices, taken for this reason."""
    latent, shape = codec.latent_shape, codec.shape
    fewer = math.prod(shape) / math.prod(latent)
    return [
        ("codec", codec.spec()["kind"], why),
        (
            "codec.latent",
            f"{times(latent)} latents",
            f"{fewer:.3g} times fewer numbers than {times(shape)} pixels",
        ),
    ]


def generator(seed: int) -> torch.Generator:
    """Of a codec's initial weights."""
    return torch.Generator().manual_seed(Seeds.of(seed, 1).fold("codec").number())


def build(part: CodecPart, seed: int, shape: tuple[int, ...]) -> Codec:
    """The codec that a part describes, untrained (a stock one as its folder has it), for states of this shape.

    Raises:
        UserError: a folder that holds no usable autoencoder, or leaves that fit no codec.
    """
    channels, *sides = shape
    if part.kind == "stock":
        assert part.path
        codec = read_stock(part.path, sides)
        if codec.channels != channels:
            raise UserError(
                f"the autoencoder in {part.path} takes pictures of {codec.channels} channels, and these have "
                f"{channels}: leave codec.path away, or convert the pictures"
            )
        return codec
    factor = part.factor if part.factor != "auto" else 8 if max(sides[-2:]) > SMALL_FACTOR else 4
    frames = [] if len(sides) == len(PICTURE) else [part.frames if part.frames != "auto" else FRAMES]
    latent = part.latent if part.latent != "auto" else factor * math.prod(frames)
    spec: dict[str, Any] = {"channels": channels, "sides": sides, "factor": [*frames, factor, factor]}
    return build_codec(spec | {"kind": "kl_vae", "latent": latent, "base": part.base}, generator(seed))


def resolved(part: CodecPart, codec: Codec | None, diffusion_steps: int | None) -> CodecPart:
    """The part without ``auto``. A budget of steps or images counts those of the diffusion; the codec's come on
    top, as many as its share of both."""
    if codec is None:
        return part.model_copy(update={"kind": "none"})
    steps = part.steps
    if steps == "auto" and diffusion_steps is not None:
        steps = max(1, round(diffusion_steps * part.share / (1 - part.share)))
    kind = codec.spec()["kind"]
    return part.model_copy(
        update={
            "kind": kind,
            "path": str(Path(part.path).resolve()) if part.path else None,
            "factor": codec.factor[-1],
            "frames": codec.factor[0] if len(codec.factor) > len(PICTURE) else part.frames,
            "latent": codec.latent,
            "steps": steps,
            "crop": part.crop if part.crop != "auto" else CROP[len(codec.sides)],
        }
    )
