"""What stands beside the items that a run makes: kept for samples that nobody asked for more of, or a person's own.

A run that was trained with something beside its items (`modalities.beside`, `modalities.medical_patches`) keeps that of
some of its data in ``beside.safetensors``, so that it can be sampled without them; which of them stands beside a sample
is drawn from the sample's own seed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import safetensors
import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Tensor

from kuosan.core.random import Seeds
from kuosan.core.shapes import BESIDE
from kuosan.errors import UserError
from kuosan.guidance.averages import repeated
from kuosan.modalities import Dataset, ImageModality
from kuosan.modalities.beside import Enlarging
from kuosan.modalities.folder import open_folder
from kuosan.modalities.maps import Book, boxes_map
from kuosan.modalities.resize import nearest
from kuosan.recipes.conditions import Where, conditions_of
from kuosan.recipes.steering import Known, Steering
from kuosan.recipes.student import needs_flow
from kuosan.training.checkpoint import write_bytes

if TYPE_CHECKING:
    from kuosan.recipes.run import Run

FILE = "beside.safetensors"
MOST = 512  # items whose neighbours are kept
FACTOR = 4  # that pictures are enlarged by, unless somebody says


def keep(path: Path, data: Dataset) -> None:
    """Into the folder of a run: what stands beside pictures that it held out, or beside others where there are none; of
    patches, whose places tell nothing of anybody, beside those of training."""
    modality = data.modality
    if not modality.beside_channels:
        return
    split = data.val if len(data.val) and isinstance(modality, ImageModality) else data.train
    count = min(MOST, len(split))
    small = modality.small(split.x[torch.arange(count) * len(split) // count])
    write_bytes(path / FILE, safetensors.torch.save({"small": small.contiguous()}))


def shown(run: Run, seeds: Seeds, cond: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Conditions with what stands beside these examples, where the network looks at that and nobody said what.

    Raises:
        UserError: what was kept is missing or damaged.
    """
    if not run.facts.network.get("beside") or BESIDE in cond:
        return dict(cond)
    small = kept(run.path)
    rows = (seeds.fold("beside").uniforms() * len(small)).long().clamp_max(len(small) - 1)
    return {**cond, BESIDE: run.modality.shown(small[rows])}


def conditions(run: Run, seed: int, numbers: range, where: Where) -> dict[str, Tensor]:
    """Those of `conditions_of`, with what stands beside samples of these numbers."""
    return shown(run, Seeds.of(seed, numbers), conditions_of(run.facts, seed, numbers, where, run.captions))


def kept(path: Path) -> Tensor:
    """What `keep` wrote.

    Raises:
        UserError: it is missing or damaged.
    """
    try:
        return _read(path / FILE, (path / FILE).stat().st_mtime_ns)
    except (OSError, KeyError, safetensors.SafetensorError) as e:
        raise UserError(
            f"{path / FILE} is missing or damaged ({e}): restore it from a copy of the run"
        ) from e


@lru_cache(4)
def _read(path: Path, when: int) -> Tensor:
    """The file as it was written then."""
    return safetensors.torch.load_file(path)["small"]


def enlarging(run: Run, source: Path | Tensor, factor: int | None = None, *, loose: bool = False) -> Steering:
    """Samples that are these pictures, so many times larger.

    Args:
        source: a picture, or a folder with pictures of one size; or states in [-1, 1].
        factor: 4, or the run's own, unless given.
        loose: their averages need not be the small pictures, which then only stand beside them.

    Raises:
        UserError: no pictures, several sizes, another factor than the run's, or a run that cannot.
    """
    modality = run.modality
    if not isinstance(modality, ImageModality) or run.codec is not None:
        what = f"a model of {modality.noun}" if run.codec is None else "a model of latents"
        raise UserError(
            f"--enlarge is for models of pictures in pixels, and {run.path} is {what}: leave it away"
        )
    needs_flow(run.facts, run.path, "enlarging pictures")
    own = modality.beside if isinstance(modality.beside, Enlarging) else None
    factor = factor or (own.factor if own else FACTOR)
    if factor < 2 or (own and factor != own.factor):
        able = f"{own.factor}, for which {run.path} was trained" if own else "2 or more"
        raise UserError(f"--factor {factor} is not possible: it can be {able}")
    if loose and not own:
        raise UserError(
            f"--loose leaves it to the model to look at the small picture, and {run.path} was not trained with "
            f"--set data.enlarge={factor}: leave it away"
        )
    y = source.float() if isinstance(source, Tensor) else _states(modality, source)
    window = modality.shape[1:]
    small = y.shape[2:]
    sides = [max(factor * n, -(-w // factor) * factor) for n, w in zip(small, window, strict=True)]
    more = [side // factor - n for side, n in zip(sides, small, strict=True)]
    padded = F.pad(y, (0, more[1], 0, more[0]), mode="replicate")
    corrections = 2 if not own and not any(w % factor for w in window) else 0
    return Steering(
        modality.plain((factor * small[0], factor * small[1])),
        (sides[0], sides[1]),
        items=len(y),
        cond={name: torch.full((len(y),), unknown) for name, unknown in run.facts.null.items()},
        beside=own.told(padded) if own else None,
        averages=None if loose else Known(repeated(padded, factor), y, factor, corrections),
        larger=tuple(sides) != window,
    )


def _states(modality: ImageModality, source: Path) -> Tensor:
    """Small pictures at their own size."""
    if not source.exists():
        raise UserError(f"there is no picture {source}: give --enlarge one, or a folder of them")
    paths = (
        [source]
        if source.is_file()
        else [e.path for e in open_folder(source, "image").entries if not e.is_array]
    )
    raws = [modality.read(path) for path in paths]
    sizes = sorted({raw.pixels.shape[:2] for raw in raws})
    if len(sizes) != 1:
        raise UserError(
            f"{source} holds {'no pictures' if not sizes else f'pictures of {len(sizes)} sizes'}, and those that are "
            "enlarged together are of one: give --enlarge a single one"
        )
    return modality.plain(sizes[0]).encode(raws)


def mapped(
    run: Run, source: Path | None, boxes: str | None, size: tuple[int, int] | None
) -> tuple[Tensor, tuple[int, int]]:
    """What stands beside samples by a person's map, (1 or n, k, h, w), and their sides.

    Args:
        source: a map in the form of the run's data, or a folder of them.
        boxes: or boxes: "rbc:10,10,30,30;wbc:0,0,5,5".
        size: of the samples; the run's own unless given.

    Raises:
        UserError: the run has no maps, or what cannot be read.
    """
    modality = run.modality
    beside = modality.beside if isinstance(modality, ImageModality) else None
    if beside is None or not beside.planes:
        raise UserError(
            f"--{'map' if source else 'boxes'} is for models that were trained with maps, and {run.path} was not"
        )
    height, width = size or modality.shape[1:]
    if boxes is not None:
        plane = boxes_map(boxes, beside.classes, height, width)[None]
    else:
        assert source is not None
        book, maps = Book(), []
        if not source.exists():
            raise UserError(f"there is no map {source}: give --map one, or a folder of them")
        for path in [source] if source.is_file() else sorted(p for p in source.iterdir() if p.is_file()):
            maps.append(nearest(book.read(path), height, width))
        plane = book.table(beside.classes, run.facts.class_names)[np.stack(maps)]
    small = torch.from_numpy(plane)[:, None]
    return beside.shown(small), (height, width)


def with_map(
    run: Run, steering: Steering | None, source: Path | None, boxes: str | None, size: tuple[int, int] | None
) -> Steering:
    """A steering with that beside its samples."""
    beside, sides = mapped(run, source, boxes, size)
    if steering is None:
        return Steering(run.modality, sides, items=len(beside), beside=beside)
    if steering.items > 1 and len(beside) not in (1, steering.items):
        raise UserError(
            f"there are {len(beside)} maps for {steering.items} items: give one for all, or as many"
        )
    items = max(steering.items, len(beside))
    return replace(steering, items=items, beside=beside.expand(items, *beside.shape[1:]))
