"""From a person's wishes to a `Steering`: which files, which parts of them stay, how large samples are to be.

What stays is written by the sides of a state, as `Modality.places` reads them:

    time:0-0.5s              a stretch of one side                     box:0-13,25%-75%   one for each side, in order
    time:0-1s,frequency:0-3  where all of several are                  group:NAME         a group of channels

and of several wishes all stay.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from kuosan.core.shapes import BESIDE, PICTURE, VOLUME
from kuosan.errors import UserError
from kuosan.modalities import Modality
from kuosan.modalities.picture_file import read_picture
from kuosan.modalities.pixels import convert
from kuosan.modalities.resize import cover
from kuosan.networks.sides import times
from kuosan.recipes.beside import enlarging, with_map
from kuosan.recipes.inverse import items_of
from kuosan.recipes.steering import Parts, Steering, Stitch
from kuosan.recipes.student import needs_flow

if TYPE_CHECKING:
    from kuosan.recipes.run import Run


def steering(
    run: Run,
    *,
    given: str | Path | Tensor | None = None,
    keep: Sequence[str] = (),
    mask: str | Path | None = None,
    vary: str | Path | Tensor | None = None,
    strength: float | None = None,
    size: str | None = None,
    length: str | int | None = None,
    stitch: Literal["auto", "blend", "continue"] = "auto",
    where: Mapping[str, str] | None = None,
    enlarge: str | Path | Tensor | None = None,
    factor: int | None = None,
    loose: bool = False,
    map: str | Path | None = None,
    boxes: str | None = None,
) -> Steering | None:
    """What these wishes come to; None where there are none.

    Args:
        given: items, in files or as states, of which parts stay.
        keep: which parts, see the module; without it and ``mask`` all that an item covers of a larger sample.
        mask: a picture, white where pictures are to be made anew.
        vary: items to make variations of.
        strength: of those, from 0 (the items) to 1 (ordinary samples); 0.5 unless given.
        size: sides of pictures or volumes that are larger than trained, "96x160" or "33x128x128", or one number for
            all; of a model of patches, those of the scans that are given or varied unless it is said.
        length: of what has a time, "4s", "120frames" or a number of places.
        stitch: how larger samples are made of windows: blended, or going on from each other. ``auto`` goes on where
            time alone is longer and the model was trained with given parts.
        where: conditions, over those of the items.
        enlarge: pictures to make larger, by ``factor``; with ``loose`` their averages need not be those pictures.
        map: of a run with maps: a map, in a file, of what is to be where; or ``boxes``, "rbc:10,10,30,30".

    Raises:
        UserError: what cannot be read, does not fit the run, or leaves nothing to do.
    """
    _lonely(given, keep, mask, vary, strength)
    if enlarge is not None:
        if not given is vary is size is length is map is boxes is None:
            raise UserError("--enlarge makes a picture of one that there is: leave other wishes away")
        return enlarging(run, enlarge if isinstance(enlarge, Tensor) else Path(enlarge), factor, loose=loose)
    if factor is not None or loose:
        raise UserError(
            f"--{'loose' if loose else 'factor'} says how to enlarge, and nothing is: add --enlarge FILE"
        )
    shown = map is not None or boxes is not None
    if given is vary is size is length is None:
        return with_map(run, None, Path(map) if map else None, boxes, None) if shown else None
    _ = run.denoiser  # a model of tokens says so
    if given is not None or vary is not None:
        needs_flow(run.facts, run.path, "keeping parts of items, and varying them,")
    trained = run.modality
    asked = _sides(trained, size, length, run.facts.network.get("free", False))
    source, part = given if given is not None else vary, bool(keep or mask)
    told = size is not None and (given is None or part)  # of how large the items are nothing has to be known
    own = trained.own_sides(Path(source)) if isinstance(source, str | Path) and not told else None
    if own and size is None:
        asked = tuple(max(a, b) for a, b in zip(own, asked, strict=True))
    scale = native(trained, asked) if run.facts.network.get("free") else 0.0
    sides = asked if scale else tuple(max(a, b) for a, b in zip(asked, trained.shape[1:], strict=True))
    larger = sides != trained.shape[1:]
    modality = trained if asked == trained.shape[1:] else trained.sized(asked)
    walked = trained if not larger else trained.sized(sides)
    items = parts = begin = None
    if vary is not None:
        items = items_of(run, vary, None, where, walked)
        begin = items.x
    if given is not None:
        form = trained.sized(own) if own else trained
        if part or not larger or any(a > b for a, b in zip(form.shape, walked.shape, strict=True)):
            form = walked
        items = items_of(run, given, None, where, form)
        parts = _parts(items.x, walked, keep, mask, given)
    if given is not None and vary is not None and len(parts.x) != len(begin):  # type: ignore[union-attr, arg-type]
        raise UserError(
            f"--given has {len(parts.x):,} items and --vary {len(begin):,}, and sample number i is made of item i of "  # type: ignore[union-attr, arg-type]
            "both: give as many of each"
        )
    made = Steering(
        modality, sides, len(items) if items else 0, items.cond if items else None, parts, begin,
        0.5 if strength is None else strength, larger, _stitch(run, sides, stitch),
        bool(run.facts.network.get("given")), scale=scale,
    )  # fmt: skip
    if shown:
        return with_map(run, made, Path(map) if map else None, boxes, (sides[-2], sides[-1]))
    return _placed(run, made, walked) if larger and run.facts.network.get("beside") else made


def _placed(run: Run, steering: Steering, walked: Modality[Any]) -> Steering:
    """With what stands beside samples that are larger than trained: what stands beside the items, or the usual.

    Raises:
        UserError: somebody has to say it.
    """
    whole, cond = walked.beside_whole, steering.cond or {}
    if whole is None:
        raise UserError(
            f"larger pictures than {run.path} was trained on need something beside them that is as large: add --map or "
            "--boxes, or use --enlarge"
        )
    if BESIDE in cond and cond[BESIDE].shape[2:] == whole.shape[2:]:
        return steering
    return replace(steering, beside=whole.expand(max(1, steering.items), *whole.shape[1:]))


def _lonely(given: Any, keep: Any, mask: Any, vary: Any, strength: float | None) -> None:
    """UserError for a wish that means nothing without another."""
    if given is None and (keep or mask is not None):
        raise UserError(
            f"--{'keep' if keep else 'mask'} says what stays of an item, and there is none: add --given FILE"
        )
    if vary is None and strength is not None:
        raise UserError("--strength says how far variations go, and there are none: add --vary FILE")
    if strength is not None and not 0 <= strength <= 1:
        raise UserError(
            f"--strength {strength:g} is not between 0 (the item) and 1 (an ordinary sample): give one that is"
        )


FARTHEST, AREAS = (
    1.25,
    (0.5, 2.0),
)  # how much wider than any shape of training, and how large, are still near those


def native(modality: Modality[Any], asked: tuple[int, ...]) -> float:
    """How much longer sides are than those of the first of several shapes that a model was trained on, where it can be
    asked for these as for those; 0 where that is too far from all of them."""
    shapes = modality.spec().get("shapes") or [modality.shape[1:]]
    aspects, aspect = [w / h for h, w in shapes], asked[1] / asked[0]
    area = math.prod(asked) / math.prod(modality.shape[1:])
    near = min(aspects) / FARTHEST <= aspect <= max(aspects) * FARTHEST
    return math.sqrt(area) if near and AREAS[0] <= area <= AREAS[1] else 0.0


def _sides(
    modality: Modality[Any], size: str | None, length: str | int | None, free: bool
) -> tuple[int, ...]:
    """The sides of samples that are asked for."""
    sides = dict(zip(modality.axes, modality.shape[1:], strict=True))
    if size is not None:
        numbers = str(size).lower().replace("×", "x").split("x")
        solid = set(VOLUME) <= set(sides)
        axes = VOLUME if solid else PICTURE
        if not all(n.strip().isdecimal() and int(n) for n in numbers) or len(numbers) not in (1, len(axes)):
            ways = "depth, height and width, as in 33x128x128" if solid else "height and width, as in 96x160"
            raise UserError(f"--size {size} is no size of {modality.noun}: give {ways}, or one number")
        if not set(PICTURE) <= set(sides):
            way = "use --length" if "time" in sides else "leave it away"
            raise UserError(
                f"--size is of pictures, and {modality.noun} here have no height and width: {way}"
            )
        asked = dict(zip(axes, [int(n) for n in numbers] * (len(axes) // len(numbers)), strict=True))
        near = free and native(modality, tuple(asked.values()))
        if not near and any(asked[axis] < sides[axis] for axis in axes):
            trained = times([sides[axis] for axis in axes])
            raise UserError(
                f"--size {size} is smaller than the {trained} that this model makes: make those and crop or shrink them"
            )
        sides |= asked
    if length is not None:
        if "time" not in sides:
            way = "use --size" if set(PICTURE) <= set(sides) else "leave it away"
            raise UserError(f"--length is of what has a time, and {modality.noun} have none: {way}")
        sides["time"] = modality.count("time", str(length))
    return tuple(sides.values())


def _parts(
    x: Tensor, walked: Modality[Any], keep: Sequence[str], mask: str | Path | None, source: Any
) -> Parts:
    """The items on a canvas of the samples' size, with what stays; of smaller ones that is all, at the beginning of
    time and in the middle of other sides."""
    sides = walked.shape[1:]
    stays = torch.zeros(1, *walked.shape, dtype=torch.bool)
    for text in keep:
        stays = stays | kept(walked, text, x)
    if mask is not None:
        stays |= ~_painted(walked, Path(mask))
    if not keep and mask is None:
        starts = [
            0 if axis == "time" else (n - k) // 2
            for axis, n, k in zip(walked.axes, sides, x.shape[2:], strict=True)
        ]
        place = tuple(slice(i, i + k) for i, k in zip(starts, x.shape[2:], strict=True))
        canvas = x.new_zeros(len(x), *walked.shape)
        canvas[:, :, *place] = x
        stays[:, :, *place] = True
        x = canvas
    if bool(stays.all()):
        what = "all of it" if keep or mask is not None else "all of it without --keep or --mask"
        raise UserError(
            f"nothing is left to be made of {'the given states' if isinstance(source, Tensor) else source}, as {what} "
            "stays: give --keep parts of it, --mask a picture that is white somewhere, or a larger --size or --length"
        )
    if not bool(stays.any()):
        raise UserError(
            "nothing stays of what is given: leave --given away, or give a --mask that is black somewhere"
        )
    return Parts(x, stays)


def kept(modality: Modality[Any], text: str, x: Float[Tensor, "b c *sides"]) -> Bool[Tensor, "m c *sides"]:
    """What one wish means of these states, true where it stays; of one for all where they are alike in it.

    Raises:
        UserError: it cannot be read, or there is no such axis, place or group.
    """
    out = torch.ones(1, *modality.shape, dtype=torch.bool)
    name, colon, rest = text.partition(":")
    if not colon:
        ways = " or ".join(f"{axis}:0-50%" for axis in modality.compared_axes)
        raise UserError(f"--keep {text} is no part of {modality.noun}: write {ways}, or leave it away")
    if name.strip() == "box":
        parts = rest.split(",")
        axes = modality.compared_axes
        if len(parts) != len(axes):
            raise UserError(
                f"--keep {text} has {len(parts)} stretches, and a box has one for each of {', '.join(axes)}: "
                f"write box:{','.join(['25%-75%'] * len(axes))}"
            )
        wishes = list(zip(axes, parts, strict=True))
    else:
        wishes = []
        for part in text.split(","):
            axis, _, place = part.partition(":")
            wishes.append((axis.strip(), place))
    for axis, place in wishes:
        if axis == "group":
            inside = torch.zeros(1, *modality.shape, dtype=torch.bool)
            groups = modality.groups
            if place.strip() not in groups:
                known = ", ".join(groups) or "none"
                raise UserError(f"{modality.noun} have no group '{place.strip()}': there are {known}")
            inside[:, list(groups[place.strip()])] = True
        else:
            inside = modality.region(axis, place.strip(), x)
        out = out & inside
    return out


def _painted(modality: Modality[Any], path: Path) -> Bool[Tensor, "1 c *sides"]:
    """Where a picture is white, on every frame or slice; it is brought to the samples' size as pictures are."""
    if not set(PICTURE) <= set(modality.axes):
        raise UserError(f"--mask is a picture, and {modality.noun} have no height and width: use --keep")
    height, width = (modality.shape[1 + modality.axes.index(axis)] for axis in PICTURE)
    if not path.is_file():
        raise UserError(
            f"there is no mask at {path}: give --mask a picture, white where it is to be made anew"
        )
    picture = read_picture(path)
    grey = cover(convert(picture.pixels, picture.mode, "L", "uint8"), "L", height, width)[..., 0]
    found = torch.from_numpy(grey.astype(np.int64) > 127)
    shape = [n if axis in PICTURE else 1 for axis, n in zip(modality.axes, modality.shape[1:], strict=True)]
    return found.reshape(1, 1, *shape).expand(1, *modality.shape)


def _stitch(run: Run, sides: tuple[int, ...], asked: str) -> Stitch:
    """How windows are put together: see `steering`."""
    modality = run.modality
    longer = [axis for axis, a, b in zip(modality.axes, sides, modality.shape[1:], strict=True) if a != b]
    if asked == "auto":
        return "continue" if longer == ["time"] and run.facts.network.get("given") else "blend"
    if asked == "continue":
        needs_flow(run.facts, run.path, "going on from window to window")
        return "continue"
    return "blend"
