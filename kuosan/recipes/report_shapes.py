"""The report's section of a run on pictures of several shapes: samples and real pictures of each."""

from __future__ import annotations

import math

import torch

from kuosan.core.random import Seeds
from kuosan.core.shapes import BESIDE
from kuosan.evaluation.report_section import Section
from kuosan.modalities import ImageModality, Split
from kuosan.networks.sides import times
from kuosan.recipes.run import Run
from kuosan.recipes.steering import Steering

EACH, MOST = 6, 6  # pictures of a shape, and shapes
SEED = 3_000_000  # another stream than that of other samples


def shapes_section(run: Run, split: Split) -> Section | None:
    """A few of each shape; None where there is one."""
    modality, shelves = run.modality, split.shelves
    if not isinstance(modality, ImageModality) or not shelves:
        return None
    lead = (
        f"Training saw pictures of {len(modality.shapes)} shapes, each batch of one, and the model makes any of them "
        f"with `--size`. Previews, distances and all other numbers are of {times(modality.shape[1:])}, the shape of "
        "most: real pictures of others were cropped to it for them."
    )
    figures = []
    for shelf in shelves[:MOST]:
        index = shelf[:EACH]
        real, labels = split.batch(index, Seeds.of(0, len(index)))
        sides = (int(real.shape[2]), int(real.shape[3]))
        scale = math.sqrt(math.prod(sides) / math.prod(modality.shape[1:]))
        there = labels.get(BESIDE)
        steering = Steering(modality.plain(sides), sides, len(index), beside=there, larger=True, scale=scale)
        made = run.sample(len(index), seed=SEED, steering=steering)
        sheet = made.modality.show(made.modality.decode(torch.cat([made.x, real])), len(index))
        share = len(shelf) / len(split)
        figures.append(
            (f"{times(sides)} ({share:.0%} of the pictures): above, samples; below, real ones.", sheet)
        )
    return Section("shapes", "Shapes", "Shapes", [lead], figures)
